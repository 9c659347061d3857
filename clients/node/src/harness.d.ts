import type { Plugin, State } from "./index.js";

export interface Feed {
  terminal?: string;
  store?: string;
  time?: string;
  id?: string;
  entity?: string;
  late?: boolean;
  /** How often it was put off before. */
  attempt?: number;
}

/** Tries a plugin without Kafka: feeds events, shows what it publishes, remembers and fails on. */
export class Harness<T = any> {
  constructor(plugin: Plugin<any, T>, settings?: Partial<T>);
  /** Every event published so far, as it stands on the bus. */
  readonly published: Record<string, any>[];
  /** What the handler threw; each of these events would be a dead letter, or is put off (`Later`). */
  readonly failures: Error[];
  /** Other settings, from the next event on; what is left out takes its default. */
  set(settings?: Partial<T>): void;
  /** Feeds an event of a till and returns what was published for it. */
  feed(type: string, data?: Record<string, any>, options?: Feed): Promise<Record<string, any>[]>;
  /** Feeds a CloudEvent as it stands. */
  feedEvent(event: Record<string, any>, options?: { entity?: string; late?: boolean; attempt?: number }): Promise<Record<string, any>[]>;
  /** What the plugin remembers about an entity. */
  state(entity: string): State;
}
