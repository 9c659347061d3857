// Names that people read, made from the names that programs use.
import { money } from './format.js';

/** The event types that Tillstream knows, for suggestions in filters and forms. */
export const EVENT_TYPES = [
  'pos.employee.logged_in', 'pos.employee.logged_out', 'pos.basket.started', 'pos.customer.identified',
  'pos.basket.item_added', 'pos.basket.item_voided', 'pos.basket.item_returned', 'pos.basket.subtotal_finalized', 'pos.payment.completed',
  'pos.basket.cancelled', 'pos.basket.suspended', 'pos.basket.resumed', 'pos.discount.applied', 'pos.refund.completed',
  'pos.drawer.opened', 'pos.age.checked', 'pos.employee.auto_logged_out', 'pos.recommendation.made',
  'pos.customer.enriched', 'pos.customer.lookup_failed', 'pos.fraud.alert_raised', 'pos.age.verification_required',
  'order.created', 'order.delivered', 'order.failed',
];

/** `idleSeconds` or `logged_in` to `Idle seconds`, `Logged in`. */
export function words(key) {
  const text = String(key).replace(/([a-z0-9])([A-Z])/g, '$1 $2').replace(/[_-]+/g, ' ').toLowerCase()
    .replace(/\bids\b/g, 'IDs').replace(/\bid\b/g, 'ID').replace(/\bms\b/g, '(ms)')
    .replace(/\bjson\b/g, 'JSON').replace(/\butf8\b/g, 'UTF-8').trim();
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** `settings.rules[2].limit` to `Rules 3 › Limit`, as the form calls it. */
export function pathWords(path) {
  const parts = [...String(path).matchAll(/\[([^\]]*)\]|([^.[\]]+)/g)].map(([, inside, plain]) => {
    if (plain !== undefined) return plain;
    return /^\d+$/.test(inside) ? Number(inside) + 1 : `“${inside}”`;
  });
  if (parts.length > 1 && ['settings', 'eligibility', 'stores'].includes(parts[0])) parts.shift();
  let text = '';
  for (const part of parts) {
    const isIndex = typeof part === 'number' || part.startsWith('“');
    const name = isIndex || /^[A-Z][A-Z0-9_-]*$/.test(part) ? part : words(part);
    text += text === '' ? name : isIndex ? ` ${name}` : ` › ${name}`;
  }
  return text;
}

/** `pos.basket.item_added` to `Item added`; the area is kept where the name alone says too little. */
export function typeName(type = '') {
  const parts = type.split('.');
  const last = words(parts.at(-1) ?? '');
  return ['Completed', 'Started', 'Cancelled', 'Suspended', 'Resumed', 'Applied', 'Opened', 'Checked', 'Made', 'Created',
    'Delivered', 'Failed', 'Enriched', 'Identified', 'Lookup failed', 'Verification required'].includes(last)
    ? `${words(parts.at(-2) ?? '')} ${last.toLowerCase()}` : last;
}

/** The terminal and store of an event, from its source, or its subject if it was derived. */
export function place(event) {
  for (const text of [event?.source, event?.subject]) {
    const match = /^\/stores\/([^/]+)\/terminals\/([^/]+)$/.exec(text ?? '');
    if (match) return { store: match[1], terminal: match[2] };
  }
  return { store: '', terminal: event?.partitionkey ?? event?.terminal?.split('/').at(-1) ?? '' };
}

/** The plugin that published an event, or nothing. */
export const pluginOf = (event) => /^\/plugins\/(.+)$/.exec(event?.source ?? '')?.[1] ?? event?.plugin ?? '';
/** How other events name this one. */
export const eventKey = (event) => `${event?.source}#${event?.id}`;
/** What a line of a basket costs. */
export const lineAmount = (data) => data.amount ?? Math.round(Number(data.quantity) * data.unitPrice);
/** An amount that goes to the customer is shown with a minus. */
export const signed = (amount, direction) => (direction === 'refund' ? -amount : amount);

/** The few words that make a line of the feed worth reading. */
export function summary(event) {
  const d = event?.data ?? {};
  const tail = event?.type ?? '';
  if (typeof event?.active === 'boolean') return `${event.active ? 'on' : 'off'}, revision ${event.revision}, by ${event.actor}`;
  if (event?.service) {
    const outcome = [event.status ?? event.error, event.attempts > 1 && `${event.attempts} attempts`, event.cached ? 'from the cache' : `${event.durationMs} ms`];
    return [`${event.service} ${event.path}`, ...outcome].filter(Boolean).join(' · ');
  }
  if (event?.topic && event.offset !== undefined) return [event.field, event.message].filter(Boolean).join(' ');
  if (tail.endsWith('item_added') || tail.endsWith('item_voided') || tail.endsWith('item_returned')) {
    const amount = tail.endsWith('item_returned') ? -lineAmount(d) : lineAmount(d);
    return `${d.quantity} × ${d.description ?? d.productId} · ${money(amount, d.currency)}`;
  }
  if (tail.endsWith('subtotal_finalized')) return `${d.itemCount} items · ${money(signed(d.total, d.direction), d.currency)}`;
  if (tail.endsWith('payment.completed') || tail.endsWith('refund.completed')) {
    const more = [d.tip && `tip ${money(d.tip, d.currency)}`, d.change && `change ${money(d.change, d.currency)}`, d.receipt === false && 'no receipt'];
    return [money(signed(d.amount, d.direction), d.currency), d.method, ...more].filter(Boolean).join(' · ');
  }
  if (tail.startsWith('order.')) return `${d.items?.length ?? 0} lines · ${money(signed(d.total, d.direction), d.currency)}`;
  if (tail.endsWith('discount.applied')) return `${money(d.amount, d.currency)}${d.manual ? ' · by hand' : ''}`;
  if (tail.endsWith('alert_raised')) return d.message ?? d.ruleId ?? '';
  if (tail.endsWith('recommendation.made')) return (d.recommended ?? []).map((r) => r.productId).join(', ');
  if (tail.endsWith('verification_required')) return `${d.category}: ${d.minimumAge}+`;
  if (tail.endsWith('age.checked')) return `${words(d.outcome)} · ${d.minimumAge}+`;
  if (tail.endsWith('customer.enriched')) return `${d.customerId} ${d.customer?.name ?? ''}`;
  if (tail.endsWith('lookup_failed')) return `${d.customerId}: ${d.error}`;
  if (tail.endsWith('auto_logged_out')) return `${d.employeeId} · ${words(d.cause)}`;
  const plain = event?.message ?? d.message ?? [d.employeeId, d.customerId, d.reason, d.basketId].filter(Boolean).join(' · ');
  return typeof plain === 'string' ? plain : JSON.stringify(plain);
}
