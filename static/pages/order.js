// One order: its lines, everything that happened to it, and what a person can do about it.
import { html, useState } from '../lib/html.js';
import { request } from '../lib/api.js';
import { count, dateTime, money, time } from '../lib/format.js';
import { lineAmount, signed } from '../lib/names.js';
import { ageMs, shortId, span, STATUS_TONE, STATUS_WORD } from '../lib/order.js';
import { useResource } from '../lib/resource.js';
import { href } from '../lib/router.js';
import { toast } from '../lib/toast.js';
import { ask } from '../ui/dialog.js';
import { Badge, PageHead, ProblemBox } from '../ui/parts.js';

const KINDS = {
  accepted: ['Accepted', 'ok'], published: ['On the bus', 'ok'], attempt: ['Attempt', 'warn'], delivered: ['Delivered', 'ok'],
  failed: ['Failed', 'bad'], resent: ['Sent again by a person', 'info'], waiting: ['Waits', 'info'],
};

function Lines({ order }) {
  const cost = (minor) => money(minor, order.currency);
  const amount = (line) => (line.returned ? -lineAmount(line) : lineAmount(line));
  const owed = order.direction === 'refund' ? -1 : 1;
  const sum = order.items.reduce((total, line) => total + amount(line), 0);
  const extra = (label, value, sign) => Boolean(value) && html`<tr><th scope="row" colspan="3">${label}</th><td class="num nowrap">${sign}${cost(value)}</td></tr>`;
  return html`<section class="card table-card" aria-label="Lines"><div class="scroll"><table class="lines"><thead><tr><th scope="col">Product</th><th scope="col" class="num">Quantity</th><th scope="col" class="num">Price</th><th scope="col" class="num">Amount</th></tr></thead>
    <tbody>${order.items.map((line, index) => html`<tr key=${index}><td class="wrap">${line.description ?? line.productId}${line.returned && html` <${Badge} tone="warn">returned<//>`}${line.description && html`<div class="muted mono">${line.productId}</div>`}</td>
      <td class="num">${count(line.quantity)}</td><td class="num nowrap">${cost(line.unitPrice)}</td><td class="num nowrap">${cost(amount(line))}</td></tr>`)}</tbody>
    <tfoot>${(order.tax || order.discount || order.rounding) ? html`<tr><th scope="row" colspan="3">${count(order.items.length)} lines</th><td class="num nowrap">${cost(sum)}</td></tr>` : null}
      ${extra(order.taxIncluded ? 'Including tax' : 'Tax', order.tax, order.taxIncluded ? '' : owed < 0 ? '− ' : '+ ')}${extra('Discount', order.discount, owed < 0 ? '+ ' : '− ')}${extra('Rounding', order.rounding && order.rounding * owed, '')}
      <tr class="total"><th scope="row" colspan="3">${owed < 0 ? 'Total, owed to the customer' : 'Total'}</th><td class="num nowrap">${cost(order.total * owed)}</td></tr></tfoot></table></div></section>`;
}

/** What an attempt came to: the answer's status, or that there was none. */
const outcome = ({ status }) => (status === undefined || status === null ? html`<${Badge} tone="bad">no answer<//>` : html`<${Badge} tone=${status < 300 ? 'ok' : status < 500 && status !== 429 && status !== 408 ? 'bad' : 'warn'}>${status}<//>`);

function Step({ step, since }) {
  const [label, tone] = KINDS[step.kind] ?? [step.kind, 'plain'];
  const shade = step.kind === 'attempt' && step.status >= 200 && step.status < 300 ? 'ok' : tone;
  return html`<li class=${`step ${shade}`} data-kind=${step.kind}>
    <span class="when"><time datetime=${step.at} title=${dateTime(step.at)}>${step.kind === 'waiting' ? 'now' : time(step.at)}</time></span>
    <div class="what"><div class="row"><b>${label}${step.kind === 'attempt' && step.attempt ? ` ${step.attempt}` : ''}</b>
      ${step.kind === 'attempt' && outcome(step)}
      ${Number.isFinite(step.durationMs) && html`<span class="muted">${span(step.durationMs)}</span>`}
      ${since !== null && html`<span class="muted since">+${span(since)}</span>`}</div>
      ${step.message && html`<p>${step.message}</p>`}</div></li>`;
}

/** Later steps come long after earlier ones of an order that was tried for hours: each says how long after acceptance. */
const Timeline = ({ order }) => html`<section class="card" aria-label="Timeline"><h2>Timeline</h2>
  <ol class="timeline">${order.timeline.map((step, index) => html`<${Step} key=${`${index}${step.kind}`} step=${step}
    since=${index === 0 ? null : new Date(step.at) - new Date(order.createdAt)} />`)}</ol></section>`;

/** The dead letter of a failed order, if it is among the newest of its plugin. */
function DeadLetterLink({ order }) {
  const { data } = useResource('/api/deadletters', { plugin: 'order-delivery', limit: 1000 });
  const letter = data?.items.find((one) => one.key === order.id || one.entity === `order:${order.id}`);
  const query = letter ? { plugin: 'order-delivery', status: letter.status, id: letter.id } : { plugin: 'order-delivery', status: 'all' };
  return html`<a href=${href(['deadletters'], query)} data-dead-letter>${letter ? 'Its dead letter' : 'Dead letters of order-delivery'}</a>`;
}

function Facts({ order }) {
  const until = order.nextAttemptAt && new Date(order.nextAttemptAt) - Date.now();
  return html`<section class="card" aria-label="Facts"><dl class="facts">
    <dt>Till</dt><dd><a href=${href(['terminal'], { terminal: order.terminalId })}>${order.terminalId}</a> <a href=${href(['orders'], { terminalId: order.terminalId })}>all orders</a></dd>
    <dt>Store</dt><dd><a href=${href(['orders'], { storeId: order.storeId })}>${order.storeId}</a></dd>
    ${order.employeeId && html`<dt>Employee</dt><dd>${order.employeeId}</dd>`}
    ${order.customerId && html`<dt>Customer</dt><dd>${order.customerId}</dd>`}
    <dt>Id</dt><dd class="mono">${order.id}</dd>
    <dt>Accepted</dt><dd>${dateTime(order.createdAt)}</dd>
    <dt>On the bus</dt><dd>${order.publishedAt ? dateTime(order.publishedAt) : 'not yet'}</dd>
    <dt>Delivered</dt><dd>${order.processedAt ? `${dateTime(order.processedAt)}, after ${span(ageMs(order))}` : 'not yet'}</dd>
    <dt>Attempts</dt><dd>${count(order.attempts)}</dd>
    ${until > 0 && html`<dt>Next attempt</dt><dd>in ${span(until)}</dd>`}
    <dt>Delivered by</dt><dd><a href=${href(['plugins', 'order-delivery'])}>order-delivery</a></dd>
  </dl></section>`;
}

/** The page of one order. */
export function OrderPage({ id }) {
  const path = `/api/orders/${encodeURIComponent(id)}`;
  const [pending, setPending] = useState(true);
  const { data: order, error, reload, setData } = useResource(path, {}, { pollMs: pending ? 1500 : 15000 });
  const [busy, setBusy] = useState(false);
  const waits = !order || order.status === 'PENDING';
  if (waits !== pending) setPending(waits);
  const crumbs = html`<p class="crumbs"><a href=${href(['orders'])}>Orders</a></p>`;
  if (!order) return html`${crumbs}<${ProblemBox} problem=${error} retry=${reload} />${!error && html`<p class="muted">Loading…</p>`}`;
  const resend = async () => {
    const text = 'It goes to the third party with all the attempts that the settings allow, under the same id: a third party that honours the key and has processed it does not do so again.';
    if (!(await ask({ title: 'Send this order again?', text, action: 'Send again' }))) return;
    setBusy(true);
    try {
      setData((await request('POST', `${path}/resend`)).data);
      toast('The order is on its way again.');
    } catch (problem) {
      toast(`Not sent again: ${problem.message}`, 'error');
      reload();
    } finally {
      setBusy(false);
    }
  };
  return html`${crumbs}
    <${PageHead} title=${`Order …${shortId(order.id)}`} lead=${`${money(signed(order.total, order.direction), order.currency)} from till ${order.terminalId}, ${order.storeId}`}>
      <${Badge} tone=${STATUS_TONE[order.status]}>${STATUS_WORD[order.status]}<//>
      ${order.status === 'FAILED' && html`<button type="button" class="primary" disabled=${busy} onClick=${resend}>Send again</button>`}<//>
    <${ProblemBox} problem=${error} retry=${reload} />
    ${order.status !== 'SUCCESS' && order.lastError && html`<div class=${order.status === 'FAILED' ? 'problem' : 'notice'} role="status"><strong>${order.status === 'FAILED' ? 'It could not be delivered' : 'The last attempt failed'}</strong><span>${order.lastError}</span>
      ${order.status === 'FAILED' && html`<${DeadLetterLink} order=${order} />`}</div>`}
    <div class="till"><div class="stack"><${Timeline} order=${order} /><${Lines} order=${order} /></div><${Facts} order=${order} /></div>`;
}
