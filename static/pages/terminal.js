// One till as its cashier would see it, live: basket, customer, suggestions, age check, alerts.
import { html, useEffect, useMemo, useRef, useState } from '../lib/html.js';
import { get } from '../lib/api.js';
import { openFeed } from '../lib/feed.js';
import { ago, money } from '../lib/format.js';
import { place, signed, words } from '../lib/names.js';
import { useResource } from '../lib/resource.js';
import { href, setQuery } from '../lib/router.js';
import { applyToTill, emptyTill, runningTotal } from '../lib/till.js';
import { Badge, Empty, Filter, PageHead, ProblemBox, severityTone } from '../ui/parts.js';

const BASKET_TONE = { open: 'info', paid: 'ok', cancelled: 'plain', suspended: 'warn' };
const SEEN_MAX = 5000;

/** The newest events of a till. A page may hold fewer than asked for, or none, while there are more. */
async function recent(terminal) {
  const found = [];
  let cursor;
  for (let page = 0; page < 5 && found.length < 60; page++) {
    const { items, next } = await get('/api/events', { terminal, limit: 200, cursor });
    found.push(...items);
    cursor = next;
    if (!next) break;
  }
  return found;
}

/** The till's state: what the server remembers, then the feed. */
function useTill(terminal) {
  const till = useRef(emptyTill());
  const [, redraw] = useState(0);
  const [problem, setProblem] = useState(null);
  useEffect(() => {
    till.current = emptyTill();
    setProblem(null);
    redraw((n) => n + 1);
    if (!terminal) return undefined;
    let early = [];
    let frame = 0;
    let gone = false;
    const apply = (events) => {
      for (const event of events) till.current = applyToTill(till.current, event);
      if (till.current.seen.size > SEEN_MAX) till.current.seen = new Set([...till.current.seen].slice(-SEEN_MAX / 2));
      if (!frame) frame = requestAnimationFrame(() => { frame = 0; redraw((n) => n + 1); });
    };
    const close = openFeed({ terminal }, {
      items: (items) => {
        const events = items.filter((item) => item.kind === 'event' || item.kind === 'derived').map((item) => item.event);
        if (early) early.push(...events);
        else apply(events);
      },
      gap: () => {},
      status: () => {},
    });
    recent(terminal).catch((error) => { setProblem(error); return []; }).then((items) => {
      if (gone) return;
      const past = items.map((item) => item.event ?? item).sort((a, b) => (a.time < b.time ? -1 : a.time > b.time ? 1 : (a.sequence ?? 1e15) - (b.sequence ?? 1e15)));
      const waiting = early;
      early = null;
      apply([...past, ...waiting]);
    });
    return () => {
      gone = true;
      cancelAnimationFrame(frame);
      close();
    };
  }, [terminal]);
  return { till: till.current, problem };
}

/** What was heard of lately: the tills with their stores, and what products are called, as far as some till has said so. */
function useHeard() {
  const { data } = useResource('/api/events', { limit: 500 }, { pollMs: 20000 });
  const products = useRef(new Map());
  const terminals = useMemo(() => {
    const found = new Map();
    for (const item of data?.items ?? []) {
      const event = item.event ?? item;
      const { store, terminal } = place(event);
      if (terminal && store) found.set(terminal, store);
      if (event.data?.description) products.current.set(event.data.productId, event.data.description);
    }
    return [...found].sort(([a], [b]) => a.localeCompare(b));
  }, [data]);
  return { terminals, products: products.current };
}

/** Tills of before `taxIncluded` show it by their sums. */
const isTaxIncluded = ({ taxIncluded, subtotal, tax, total, rounding = 0 }) => taxIncluded ?? subtotal + tax + rounding !== total;

function Basket({ basket, currency }) {
  if (!basket) return html`<${Empty} title="No basket yet">The next one appears as soon as it is started.<//>`;
  const total = runningTotal(basket);
  return html`<div class="row"><h2>Basket</h2><span class="mono muted">${basket.id}</span><${Badge} tone=${BASKET_TONE[basket.state]}>${basket.state}<//></div>
    <div class="basket-lines scroll"><table data-basket><thead><tr><th scope="col">Item</th><th scope="col" class="num">Quantity</th><th scope="col" class="num">Price</th><th scope="col" class="num">Amount</th></tr></thead>
      <tbody>${basket.lines.map((line) => html`<tr key=${`${line.line}-${line.voided}-${line.returned}`} class=${line.voided ? 'voided' : ''}><td>${line.description ?? line.productId}${line.voided && html`<span class="sr"> voided</span>`}${line.returned && html` <${Badge} tone="warn">returned<//>`}</td>
        <td class="num">${line.quantity}</td><td class="num">${money(line.unitPrice, line.currency)}</td><td class="num">${money(line.amount, line.currency)}</td></tr>`)}
      ${basket.discount > 0 && html`<tr><td colspan="3">Discount</td><td class="num">${money(-basket.discount, currency)}</td></tr>`}
      ${Boolean(basket.totals?.rounding) && html`<tr><td colspan="3">Rounding</td><td class="num">${money(signed(basket.totals.rounding, basket.totals.direction), currency)}</td></tr>`}
      ${basket.totals && html`<tr><td colspan="3" class="muted">${isTaxIncluded(basket.totals) ? 'Including tax' : 'Tax'}</td><td class="num muted">${money(basket.totals.tax, currency)}</td></tr>`}</tbody></table></div>
    <div class="basket-total"><span>${basket.totals ? 'Total' : 'So far'}</span><b>${money(total, currency)}</b></div>
    ${basket.payments.map((paid) => html`<p key=${paid.paymentId} class="muted">${paid.direction === 'refund' ? 'Paid out' : 'Paid'} ${money(paid.amount, paid.currency)} by ${paid.method}${Boolean(paid.tip) && `, tip ${money(paid.tip, paid.currency)}`}${Boolean(paid.change) && `, change ${money(paid.change, paid.currency)}`}</p>`)}`;
}

function Side({ till, products }) {
  const { customer, suggestions, age, alerts } = till;
  const name = customer?.details?.greeting ?? (customer?.details?.name ? `Hello, ${customer.details.name}` : customer?.id);
  return html`<div class="till-side" aria-live="polite">
    ${age && !age.outcome && html`<section class="card prompt" role="alert"><strong>Check age: ${age.minimumAge}+</strong>
      <p>${words(age.category)}.${age.challengeAge ? ` Ask for a document if the customer looks younger than ${age.challengeAge}.` : ''}</p></section>`}
    ${age?.outcome && html`<section class="card"><strong>Age check</strong> <${Badge} tone=${age.outcome.startsWith('approved') ? 'ok' : 'bad'}>${words(age.outcome)}<//></section>`}
    ${customer && html`<section class="card greeting"><h2>${name}</h2>
      ${customer.failed && html`<p class="muted">The customer system has nothing to say about ${customer.id}.</p>`}
      ${customer.details && html`<dl class="facts">${Object.entries(customer.details).filter(([key]) => key !== 'greeting').map(([key, value]) => html`<dt key=${key}>${words(key)}</dt><dd>${typeof value === 'object' ? JSON.stringify(value) : String(value)}</dd>`)}</dl>`}</section>`}
    <section class="card"><h2>Suggest</h2>
      ${suggestions.length ? suggestions.map((one) => html`<div class="suggestion" key=${one.productId}><b>${products.get(one.productId) ?? one.productId}</b><span class="muted">${one.reason}</span></div>`) : html`<p class="muted">Nothing at the moment.</p>`}</section>
    ${alerts.length > 0 && html`<section class="card till-alert"><h2>Alerts at this till</h2>${alerts.map((one) => html`<p key=${one.id}><${Badge} tone=${severityTone(one.severity)}>${one.severity}<//> <a href=${href(['alerts', one.id])}>${one.message}</a></p>`)}</section>`}
  </div>`;
}

export default function Terminal({ query }) {
  const { terminals, products } = useHeard();
  const terminal = query.terminal ?? terminals[0]?.[0] ?? '';
  const { till, problem } = useTill(terminal);
  const currency = till.basket?.lines[0]?.currency ?? till.basket?.totals?.currency;
  const options = terminals.map(([id, store]) => ({ value: id, label: `${id} in ${store}` }));
  if (terminal && !options.some((one) => one.value === terminal)) options.unshift({ value: terminal, label: terminal });
  return html`<${PageHead} title="Terminal" lead="What a cashier sees at one till, live." />
    <div class="filters"><${Filter} label="Till" value=${terminal} width="wide" options=${options} onChange=${(value) => setQuery({ terminal: value })} />
      ${terminal && html`<p class="muted">${till.employee ? html`<b>${till.employee}</b> is logged in` : 'Nobody is known to be logged in'} · last event ${ago(till.last)}</p>`}</div>
    <${ProblemBox} problem=${problem} />
    ${terminal ? html`<div class="till"><section class="card" aria-label="Basket"><${Basket} basket=${till.basket} currency=${currency} /></section><${Side} till=${till} products=${products} /></div>`
      : html`<${Empty} title="No till has been heard of yet">Start one, or a rig that plays one.<//>`}`;
}
