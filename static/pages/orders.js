// Orders: how many wait, are delivered and have failed, the backlog over time, and the list with its filters.
import { html, useEffect, useState } from '../lib/html.js';
import { request } from '../lib/api.js';
import { count, day, money, shortDateTime } from '../lib/format.js';
import { signed } from '../lib/names.js';
import { ageMs, LATE_SECONDS, shortId, span, STATUS_TONE, STATUS_WORD } from '../lib/order.js';
import { useList, useResource } from '../lib/resource.js';
import { href, setQuery } from '../lib/router.js';
import { toast } from '../lib/toast.js';
import { ask } from '../ui/dialog.js';
import { Badge, Empty, Filter, More, PageHead, ProblemBox } from '../ui/parts.js';
import { Plot } from '../ui/plot.js';
import { OrderPage } from './order.js';

const KEPT = 900;
/** A longer pause between two readings is left open in the plot. */
const GAP_SECONDS = 15;
const SERIES = [{ label: 'Waiting', colour: 'accent' }, { label: 'Not on the bus', colour: 'warn' }];
// Kept while the admin is open, so that a look at one order does not empty the plot.
let backlog = [[], [], []];

function useBacklog(stats) {
  const [data, setData] = useState(backlog);
  useEffect(() => {
    if (!stats) return;
    const now = Date.now() / 1000;
    const last = backlog[0].at(-1);
    const readings = last && now - last > GAP_SECONDS ? [[last + 1, null, null]] : [];
    readings.push([now, stats.counts.PENDING, stats.unpublished]);
    backlog = backlog.map((list, index) => [...list, ...readings.map((one) => one[index])].slice(-KEPT));
    setData(backlog);
  }, [stats]);
  return data;
}

const dayAfter = (date) => {
  const next = new Date(`${date}T12:00:00Z`);
  next.setUTCDate(next.getUTCDate() + 1);
  return next.toISOString().slice(0, 10);
};

function StatusTile({ status, value, query }) {
  const chosen = query.status === status;
  return html`<a class=${`card tile choice ${chosen ? 'chosen' : ''}`} href=${href(['orders'], { ...query, status: chosen ? '' : status })} aria-current=${chosen ? 'true' : undefined} data-count=${status}>
    <span class="label">${STATUS_WORD[status]}</span><b class=${status === 'FAILED' && value > 0 ? 'bad' : ''}>${count(value)}</b></a>`;
}

function Figures({ stats, query }) {
  const { counts, oldestPendingAt, unpublished, parked, acceptedPerSecond } = stats;
  const oldest = oldestPendingAt ? Date.now() - new Date(oldestPendingAt).getTime() : null;
  return html`<div class="tiles figures">
    ${Object.keys(STATUS_WORD).map((one) => html`<${StatusTile} key=${one} status=${one} value=${counts[one]} query=${query} />`)}
    <div class="card tile"><span class="label">oldest that waits</span><b class=${oldest > LATE_SECONDS * 1000 ? 'warn' : ''} data-oldest>${oldest === null ? '–' : span(oldest)}</b></div>
    <div class="card tile"><span class="label">not on the bus yet</span><b>${count(unpublished)}</b>${parked > 0 && html`<span class="label bad">${count(parked)} refused by the bus</span>`}</div>
    ${acceptedPerSecond !== undefined && html`<div class="card tile"><span class="label">accepted per second</span><b>${count(Math.round(acceptedPerSecond * 10) / 10)}</b></div>`}
  </div>`;
}

function Delivery() {
  const { data: plugin } = useResource('/api/plugins/order-delivery', {}, { pollMs: 5000 });
  if (!plugin || plugin.active) return null;
  return html`<div class="notice" role="status"><strong>Order delivery is switched off.</strong>
    <span>Orders are accepted and wait; all of them go once it is on again.</span><a href=${href(['plugins', 'order-delivery'])}>Open order-delivery</a></div>`;
}

/** Sends orders again one after the other; what cannot be sent is told at the end. */
async function resend(orders, { onDone }) {
  let sent = 0;
  let fault = null;
  for (const { id } of orders) {
    try {
      await request('POST', `/api/orders/${encodeURIComponent(id)}/resend`);
      sent += 1;
    } catch (error) {
      fault = error;
      if (error.status === 0 || error.status === 503) break;
    }
  }
  const many = (n) => `${count(n)} ${n === 1 ? 'order' : 'orders'}`;
  if (sent) toast(`${many(sent)} sent again.`);
  if (fault) toast(`Not sent again: ${many(orders.length - sent)}. ${fault.message}`, 'error');
  onDone();
}

function Row({ order, chosen, onChoose }) {
  const age = ageMs(order);
  const late = order.status === 'PENDING' && age > LATE_SECONDS * 1000;
  return html`<tr>
    <td class="check">${order.status === 'FAILED' && html`<input type="checkbox" aria-label=${`Select order ${shortId(order.id)}`} checked=${chosen} onChange=${onChoose} />`}</td>
    <td class="nowrap"><time datetime=${order.createdAt}>${shortDateTime(order.createdAt)}</time></td>
    <td class="nowrap"><a class="mono" href=${href(['orders', order.id])} data-row title=${order.id}>…${shortId(order.id)}</a></td>
    <td><${Badge} tone=${STATUS_TONE[order.status]}>${STATUS_WORD[order.status]}<//></td>
    <td class=${`num nowrap ${late ? 'late' : ''}`}>${order.status === 'SUCCESS' ? html`<span class="muted">took </span>` : ''}${span(age)}</td>
    <td class="num">${order.attempts > 1 ? html`<${Badge} tone="warn">${count(order.attempts)}<//>` : count(order.attempts)}</td>
    <td class="nowrap">${order.terminalId} <span class="muted">${order.storeId}</span></td>
    <td class="num">${count(order.items.length)}</td>
    <td class="num nowrap">${money(signed(order.total, order.direction), order.currency)}</td>
  </tr>`;
}

function OrderList({ query }) {
  const { status = '', storeId = '', terminalId = '', from = '', to = '' } = query;
  const stats = useResource('/api/orders/stats', {}, { pollMs: 2000 });
  const data = useBacklog(stats.data);
  const filter = { status, storeId, terminalId, from, to: to && dayAfter(to) };
  const list = useList('/api/orders', { ...filter, limit: 50 }, { pollMs: 3000 });
  const [chosen, setChosen] = useState(new Set());
  const [busy, setBusy] = useState(false);
  const filtered = Boolean(status || storeId || terminalId || from || to);
  const failed = list.items.filter((order) => order.status === 'FAILED');
  const selected = failed.filter((order) => chosen.has(order.id));
  const flip = (id) => setChosen((old) => {
    const next = new Set(old);
    if (!next.delete(id)) next.add(id);
    return next;
  });
  const resendSelected = async () => {
    const text = 'They go to the third party with all the attempts that the settings allow, under the same ids: what it processed before is not processed twice if it honours the key.';
    if (!(await ask({ title: `Send ${count(selected.length)} again?`, text, action: 'Send again' }))) return;
    setBusy(true);
    await resend(selected, { onDone: () => { setBusy(false); setChosen(new Set()); list.reload(); stats.reload(); } });
  };
  return html`<${PageHead} title="Orders" lead="What tills ordered: accepted once, delivered once to the third party." />
    <${Delivery} />
    <${ProblemBox} problem=${stats.error} retry=${stats.reload} />
    ${stats.data && html`<${Figures} stats=${stats.data} query=${query} />
      <section class="card backlog"><h2>Backlog</h2>${data[0].length < 2 ? html`<p class="muted plot">Two readings are needed before there is something to draw.</p>` : html`<${Plot} data=${data} series=${SERIES} label="Orders that wait, and orders that are not on the bus, over the last minutes" />`}</section>`}
    <div class="filters">
      <${Filter} label="Status" value=${status} options=${[{ value: '', label: 'all' }, ...Object.entries(STATUS_WORD).map(([value, label]) => ({ value, label }))]} onChange=${(value) => setQuery({ status: value })} />
      <${Filter} label="Store" value=${storeId} placeholder="all" onChange=${(value) => setQuery({ storeId: value })} />
      <${Filter} label="Till" value=${terminalId} placeholder="all" onChange=${(value) => setQuery({ terminalId: value })} />
      <${Filter} label="First day" type="date" value=${from} onChange=${(value) => setQuery({ from: value })} />
      <${Filter} label="Last day" type="date" value=${to} onChange=${(value) => setQuery({ to: value })} />
      ${!from && !to && html`<button type="button" class="quiet" onClick=${() => setQuery({ from: day(0), to: day(0) })}>Today</button>`}
      ${filtered && html`<button type="button" class="quiet" onClick=${() => setQuery({ status: '', storeId: '', terminalId: '', from: '', to: '' })}>Clear filters</button>`}
    </div>
    <${ProblemBox} problem=${list.error} retry=${list.reload} />
    ${!list.loading && !list.error && list.items.length === 0
      ? html`<${Empty} title=${filtered ? 'No order fits these filters' : 'No orders'}>${filtered ? '' : 'Tills post them to /api/orders.'}<//>`
      : html`<div class="card table-card">
        ${(failed.length > 0 || list.paged) && html`<div class="bulk" role="group" aria-label="Many at once">
          <span class="grow" aria-live="polite">${selected.length ? `${count(selected.length)} selected` : list.paged ? 'The list stands still while older orders are shown' : 'Select failed orders to send them again'}</span>
          ${selected.length > 0 && html`<button type="button" class="small primary" disabled=${busy} onClick=${resendSelected}>Send selected again</button>`}
          ${list.paged && html`<button type="button" class="small" onClick=${list.reload}>Back to the newest</button>`}</div>`}
        <div class="scroll"><table class="list orders"><thead><tr>
          <th scope="col" class="check">${failed.length > 0 && html`<input type="checkbox" aria-label="Select all failed orders that are shown" checked=${selected.length === failed.length} onChange=${() => setChosen(selected.length === failed.length ? new Set() : new Set(failed.map(({ id }) => id)))} />`}</th>
          <th scope="col">Accepted</th><th scope="col">Order</th><th scope="col">Status</th><th scope="col" class="num">Age</th><th scope="col" class="num">Attempts</th><th scope="col">Till</th><th scope="col" class="num">Lines</th><th scope="col" class="num">Total</th></tr></thead>
        <tbody>${list.items.map((order) => html`<${Row} key=${order.id} order=${order} chosen=${chosen.has(order.id)} onChoose=${() => flip(order.id)} />`)}</tbody></table></div></div>`}
    <${More} list=${list} />`;
}

export default function Orders({ path, query }) {
  return path[0] ? html`<${OrderPage} id=${path[0]} />` : html`<${OrderList} query=${query} />`;
}
