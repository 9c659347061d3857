// What a till shows, as a pure function of its events: employee, basket, customer, suggestions, age check, alerts.
import { eventKey, lineAmount, signed } from './names.js';

/** A till of which nothing is known. */
export const emptyTill = () => ({ employee: null, basket: null, customer: null, suggestions: [], age: null, alerts: [], last: null, seen: new Set() });

const newBasket = (id, at) => ({ id, at, lines: [], discount: 0, totals: null, payments: [], state: 'open' });

/** The till after one more event; the same event twice changes nothing. */
export function applyToTill(till, event) {
  const key = eventKey(event);
  if (till.seen.has(key)) return till;
  till.seen.add(key);
  const d = event.data ?? {};
  const type = event.type ?? '';
  const next = { ...till, last: event.time };
  if (d.basketId && d.basketId !== till.basket?.id) {
    // What plugins say of a basket that is gone is no longer of use to the cashier.
    if (event.source?.startsWith('/plugins/')) return type.endsWith('alert_raised') ? withAlert(next, d, event) : next;
    if (type !== 'pos.refund.completed') {
      Object.assign(next, { basket: newBasket(d.basketId, event.time), customer: null, suggestions: [], age: null });
    }
  }
  const basket = next.basket ? { ...next.basket } : null;
  const known = BY_TYPE[type];
  if (known && (basket || NO_BASKET.has(type))) {
    known(next, basket, d, event);
    if (next.basket && basket && next.basket.id === basket.id) next.basket = basket;
  }
  return next;
}

function withAlert(till, d, event) {
  return { ...till, alerts: [{ id: d.alertId, message: d.message, severity: d.severity, at: event.time }, ...till.alerts].slice(0, 5) };
}

/** True if what was paid covers the total, or nobody knows the total. */
function isSettled({ totals, payments }) {
  if (!totals) return true;
  const due = signed(totals.total, totals.direction);
  const paid = payments.reduce((sum, one) => sum + signed(one.amount, one.direction), 0);
  return due < 0 ? paid <= due : paid >= due;
}

const NO_BASKET = new Set(['pos.employee.logged_in', 'pos.employee.logged_out', 'pos.employee.auto_logged_out', 'pos.fraud.alert_raised']);
const ended = (state) => (till, basket) => {
  basket.state = state;
  till.suggestions = [];
  till.age = null;
};

/** The total is no longer the last one, and a payment so far was for a part. */
const sellOn = (basket) => {
  basket.totals = null;
  if (basket.state === 'paid') basket.state = 'open';
};

const BY_TYPE = {
  'pos.employee.logged_in': (till, _, d) => { till.employee = d.employeeId; },
  'pos.employee.logged_out': (till) => { till.employee = null; },
  'pos.employee.auto_logged_out': (till, _, d) => { if (till.employee === d.employeeId) till.employee = null; },
  'pos.basket.started': (till, _, d) => { till.employee = d.employeeId; },
  'pos.customer.identified': (till, _, d) => { till.customer = { id: d.customerId, details: null, failed: false }; },
  'pos.customer.enriched': (till, _, d) => { till.customer = { id: d.customerId, details: d.customer, failed: false }; },
  'pos.customer.lookup_failed': (till, _, d) => { till.customer = { id: d.customerId, details: null, failed: true }; },
  'pos.basket.item_added': (till, basket, d) => {
    till.employee = d.employeeId;
    basket.lines = [...basket.lines.filter((line) => line.line !== d.line || line.voided || line.returned), { ...d, amount: lineAmount(d), voided: false }];
    sellOn(basket);
    till.suggestions = till.suggestions.filter((one) => one.productId !== d.productId);
  },
  'pos.basket.item_voided': (_, basket, d) => {
    // A till that numbers the void itself means the last line of the product.
    const isMeant = (line) => !line.voided && line.productId === d.productId;
    const exact = basket.lines.findIndex((line) => isMeant(line) && line.line === d.line);
    const index = exact >= 0 ? exact : basket.lines.findLastIndex(isMeant);
    basket.lines = basket.lines.map((line, place) => (place === index ? { ...line, voided: true } : line));
    sellOn(basket);
  },
  'pos.basket.item_returned': (till, basket, d) => {
    till.employee = d.employeeId;
    basket.lines = [...basket.lines, { ...d, amount: -lineAmount(d), returned: true, voided: false }];
    sellOn(basket);
  },
  'pos.discount.applied': (_, basket, d) => { basket.discount += d.amount; },
  'pos.basket.subtotal_finalized': (_, basket, d) => { basket.totals = d; },
  'pos.payment.completed': (till, basket, d) => {
    basket.payments = [...basket.payments, d];
    if (isSettled(basket)) ended('paid')(till, basket);
  },
  'pos.basket.cancelled': ended('cancelled'),
  'pos.basket.suspended': ended('suspended'),
  'pos.basket.resumed': (_, basket) => { basket.state = 'open'; },
  'pos.recommendation.made': (till, _, d) => {
    const fresh = d.recommended ?? [];
    till.suggestions = [...fresh, ...till.suggestions.filter((old) => !fresh.some((one) => one.productId === old.productId))].slice(0, 4);
  },
  'pos.age.verification_required': (till, _, d) => { till.age = { minimumAge: d.minimumAge, challengeAge: d.challengeAge, category: d.category, outcome: null }; },
  'pos.age.checked': (till, _, d) => { if (till.age) till.age = { ...till.age, outcome: d.outcome }; },
  'pos.fraud.alert_raised': (till, _, d, event) => { till.alerts = withAlert(till, d, event).alerts; },
};

/** Sum of the basket so far in minor units. */
export const runningTotal = (basket) => (basket.totals ? signed(basket.totals.total, basket.totals.direction) : null) ?? basket.lines.reduce((sum, line) => sum + (line.voided ? 0 : line.amount), 0) - basket.discount;
