// Short messages in the corner of the page, read out by screen readers.
import { signal } from './html.js';

/** What is shown: `{id, text, kind}`. */
export const toasts = signal([]);
let next = 1;

/** Shows a message; an `error` stays twice as long. */
export function toast(text, kind = 'ok') {
  const id = next++;
  toasts.value = [...toasts.value.slice(-3), { id, text, kind }];
  setTimeout(() => dismiss(id), kind === 'error' ? 10000 : 5000);
}

/** Takes a message away. */
export function dismiss(id) {
  toasts.value = toasts.value.filter((one) => one.id !== id);
}
