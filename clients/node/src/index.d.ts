/** What a handler remembers about an entity: a JSON object, changed in place; an empty one is forgotten. */
export type State = Record<string, any>;
export type Scope = "terminal" | "employee" | "customer" | "card";

/** A CloudEvent as a handler sees it. */
export interface TillEvent {
  readonly id: string;
  readonly source: string;
  readonly type: string;
  readonly time: string;
  readonly data: Record<string, any>;
  /** `source#id`, as `causationid` and `eventIds` name events. */
  readonly name: string;
  /** The terminal, employee, customer or card that keys the state. */
  readonly entity: string;
  /** Whether it came after later events of its till. */
  readonly late: boolean;
  /** `/stores/S001/terminals/T0007` of the terminal that it is about, and the ids in it. */
  readonly terminalSource: string | null;
  readonly terminal: string | null;
  readonly store: string | null;
  readonly training: boolean;
  /** All attributes. */
  readonly raw: Record<string, any>;
}

/** An event to publish on `pos.events`; id, time, causation and terminal follow from the event that caused it. */
export interface Publish {
  readonly type: string;
  readonly data: Record<string, any>;
}

export type Outcome = Publish | Iterable<Publish> | null | undefined | void;

/** What a handler may use beside its arguments. */
export interface Context {
  /** Aborted when the plugin is switched off, gets other settings or ends: a call that is under way should be given up. */
  readonly signal: AbortSignal;
  /** How often this event was put off with `Later` before, by this member. */
  readonly attempt: number;
}

export type Handler<S extends State = State, T = any> = (
  state: S,
  settings: T,
  event: TillEvent,
  context: Context,
) => Outcome | Promise<Outcome>;

export interface Definition<T = any> {
  name: string;
  version: string;
  description: string;
  scope: Scope;
  eventTypes: readonly string[];
  /** JSON Schema 2020-12 of the settings; the admin makes a form of it. Without one there are no settings. */
  settingsSchema?: Record<string, any>;
  defaultSettings?: T;
}

export interface Manifest extends Required<Definition> {
  protocol: 1;
}

/** How a member runs; the environment sets what is left out (TILLSTREAM_BROKERS, TILLSTREAM_TOPIC_PREFIX, TILLSTREAM_KAFKA_...). */
export interface Options {
  brokers?: string;
  topicPrefix?: string;
  /** librdkafka's settings for every client. */
  kafka?: Record<string, string | number | boolean>;
  /** The most input records in a transaction; 5000. */
  batchRecords?: number;
  /** The longest that a batch is worked on before it is committed; 100. One slow event may take longer. */
  batchMs?: number;
  heartbeatMs?: number;
  sessionMs?: number;
  transactionMs?: number;
  log?: (line: string) => void;
}

export interface Plugin<S extends State = State, T = any> {
  readonly definition: Definition<T>;
  readonly handler: Handler<S, T>;
  manifest(): Manifest;
  /** Runs as a member of this plugin's group until SIGTERM or Ctrl-C, or until the signal. */
  run(options?: Options & { signal?: AbortSignal }): Promise<void>;
}

/** Makes a plugin of a function `(state, settings, event, context)`. */
export function plugin<T = any, S extends State = State>(definition: Definition<T>, handler: Handler<S, T>): Plugin<S, T>;

export function publish(type: string, data?: Record<string, any>): Publish;

/**
 * Thrown by a handler that cannot take this event yet: it stays in the input, and with it what follows on its partition. It is handed
 * over again after so many seconds, or as soon as the settings change. It is neither an error nor lost.
 */
export class Later extends Error {
  /** `attempt`: what `context.attempt` is next time; one more than now if left out. */
  constructor(seconds: number, reason?: string, options?: { attempt?: number });
  readonly seconds: number;
  readonly attempt: number | undefined;
}

/** An input record that holds no CloudEvent. */
export class InvalidEvent extends Error {}

export function derivedId(source: string, id: string, plugin: string, scope: string, entity: string, index: number): string;
export function murmur2(key: Uint8Array): number;
export function partitionOf(key: string | Uint8Array, partitions: number): number;
