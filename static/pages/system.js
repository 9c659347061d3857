// How the system is doing: processes with their roles, throughput, partitions with lag, delivery, actors with restarts.
import { html, useEffect, useRef, useState } from '../lib/html.js';
import { ago, bytes, count, dateTime, duration } from '../lib/format.js';
import { words } from '../lib/names.js';
import { useResource } from '../lib/resource.js';
import { Badge, PageHead, ProblemBox } from '../ui/parts.js';
import { Plot } from '../ui/plot.js';

const KEPT = 300;
const SERIES = [{ label: 'Events/s', colour: 'accent', key: 'events' }, { label: 'Derived/s', colour: 'info', key: 'derived' }, { label: 'Dead letters/s', colour: 'warn', key: 'deadLetters' }];

/** Rates per second out of counters that only grow. */
function useRates(system) {
  const last = useRef(null);
  const [data, setData] = useState([[], ...SERIES.map(() => [])]);
  useEffect(() => {
    if (!system?.totals) return;
    const now = performance.now() / 1000;
    const before = last.current;
    last.current = { at: now, totals: system.totals };
    if (!before || now - before.at < 0.2) return;
    const rate = ({ key }) => Math.max(0, ((system.totals[key] ?? 0) - (before.totals[key] ?? 0)) / (now - before.at));
    setData((old) => [[...old[0], Date.now() / 1000], ...SERIES.map((one, index) => [...old[index + 1], rate(one)])].map((list) => list.slice(-KEPT)));
  }, [system]);
  return data;
}

const text = (value) => (value && typeof value === 'object' ? (value.kind ?? JSON.stringify(value)) : (value ?? '–'));
const Tile = ({ label, value, textual }) => html`<div class="card tile"><dt>${label}</dt><dd class=${textual ? 'text' : ''}>${value}</dd></div>`;

function Partitions({ list }) {
  const clocks = list.filter((one) => one.clock && one.topic === 'pos.events').map((one) => new Date(one.clock).getTime());
  const behind = (one) => one.topic === 'pos.events' && one.clock && new Date(one.clock).getTime() === Math.min(...clocks) && Math.max(...clocks) - Math.min(...clocks) >= 1000;
  return html`<div class="card table-card"><div class="scroll"><table class="list"><thead><tr><th scope="col">Topic</th><th scope="col" class="num">Partition</th><th scope="col">Owner</th><th scope="col" class="num">Next offset</th><th scope="col" class="num">End</th><th scope="col" class="num">Lag</th><th scope="col">Clock</th></tr></thead>
    <tbody>${list.map((one) => html`<tr key=${`${one.topic}/${one.partition}`}><td>${one.topic}</td><td class="num">${one.partition}</td><td>${one.owner ?? one.shard ?? '–'}</td><td class="num">${count(one.nextOffset)}</td><td class="num">${count(one.endOffset)}</td>
      <td class="num">${one.lag > 1000 ? html`<${Badge} tone="warn">${count(one.lag)}<//>` : count(one.lag)}</td><td class="nowrap">${dateTime(one.clock)}${one.holdsClock || behind(one) ? html` <${Badge} tone="warn">holds the clock<//>` : ''}</td></tr>`)}
    ${!list.length && html`<tr><td colspan="7" class="muted">Nobody has taken a partition yet.</td></tr>`}</tbody></table></div></div>`;
}

function Processes({ list }) {
  const state = (one) => (one.state === 'gone' ? html`<${Badge} tone="bad">gone<//>` : one.isReady ? html`<${Badge} tone="ok">alive<//>` : html`<${Badge} tone="warn">not ready<//>`);
  return html`<div class="card table-card"><div class="scroll"><table class="list"><thead><tr><th scope="col">Process</th><th scope="col">Roles</th><th scope="col">State</th><th scope="col" class="num">Partitions</th><th scope="col" class="num">Lag</th><th scope="col" class="num">Events</th><th scope="col" class="num">Memory</th><th scope="col">Started</th><th scope="col">Heard of</th><th scope="col">Address</th></tr></thead>
    <tbody>${list.map((one) => html`<tr key=${one.id}><th scope="row">${one.id}${one.isThis ? html` <span class="muted">(this one)</span>` : ''}</th><td>${one.roles.join(', ')}</td><td>${state(one)}</td>
      <td class="num" title=${one.partitions.join(', ')}>${count(one.partitions.length)}</td><td class="num">${one.lag > 1000 ? html`<${Badge} tone="warn">${count(one.lag)}<//>` : count(one.lag)}</td><td class="num">${count(one.events)}</td><td class="num">${bytes(one.rssBytes)}</td>
      <td class="nowrap">${dateTime(one.startedAt)}</td><td class="nowrap">${one.isThis ? 'now' : ago(one.heartbeatAt)}</td><td>${one.address ?? '–'}</td></tr>`)}</tbody></table></div></div>`;
}

/** What waits for relay and dispatcher, and whether they get rid of it. */
function Delivery({ delivery }) {
  const breakers = Object.entries(delivery.breakers ?? {});
  const late = delivery.outboxOldestSeconds > 30;
  return html`<dl class="tiles">
      <${Tile} label="Records in the outbox" value=${count(delivery.outboxRecords)} />
      <${Tile} label="Oldest of them" value=${late ? html`<${Badge} tone="warn">${duration(delivery.outboxOldestSeconds)}<//>` : duration(delivery.outboxOldestSeconds)} textual />
      <${Tile} label="Relayed" value=${count(delivery.relayedRecords)} />
      <${Tile} label="HTTP calls that wait" value=${count(delivery.httpCalls)} />
      <${Tile} label="Answered" value=${count(delivery.answered)} /><${Tile} label="Failed" value=${count(delivery.failed)} />
      ${breakers.map(([name, state]) => html`<${Tile} key=${name} label=${`Breaker: ${name}`} value=${html`<${Badge} tone=${state === 'closed' ? 'ok' : 'bad'}>${words(state)}<//>`} textual />`)}
    </dl>
    ${delivery.parked?.length > 0 && html`<div class="problem" role="alert"><strong>The bus refuses records of the outbox</strong>${delivery.parked.map((one) => html`<span key=${one.lane}>${one.lane}, row ${one.seq}, since ${dateTime(one.since)}: ${one.reason}</span>`)}</div>`}`;
}

/** Tills whose clocks are wrong, so that somebody sets them right. */
const Clocks = ({ list }) => html`<div class="card table-card"><div class="scroll"><table class="list" data-clocks><thead><tr><th scope="col">Till</th><th scope="col">Store</th><th scope="col">Clock</th></tr></thead>
  <tbody>${list.map((one) => html`<tr key=${`${one.storeId}/${one.terminalId}`}><th scope="row">${one.terminalId}</th><td>${one.storeId}</td>
    <td>${one.driftSeconds > 0 ? `${duration(one.driftSeconds)} ahead` : `${duration(-one.driftSeconds)} behind, or it was offline`}</td></tr>`)}</tbody></table></div></div>`;

function Actors({ list }) {
  const several = list.some((one) => one.process);
  return html`<div class="card table-card"><div class="scroll"><table class="list"><thead><tr><th scope="col">Actor</th>${several && html`<th scope="col">Process</th>`}<th scope="col" class="num">Restarts</th><th scope="col">Last fault</th></tr></thead>
    <tbody>${list.map((one) => html`<tr key=${`${one.process}/${one.name}`}><th scope="row">${one.name}</th>${several && html`<td>${one.process}</td>`}<td class="num">${one.restarts > 0 ? html`<${Badge} tone="warn">${count(one.restarts)}<//>` : 0}</td><td class="wrap muted">${one.lastError ?? '–'}</td></tr>`)}</tbody></table></div></div>`;
}

export default function System() {
  const { data: system, error, reload } = useResource('/api/system', {}, { pollMs: 1000 });
  const rates = useRates(system);
  const totals = system?.totals ?? {};
  const uptime = system?.uptimeSeconds ?? (system?.startedAt ? (Date.now() - new Date(system.startedAt)) / 1000 : undefined);
  const rss = system?.memory?.rssBytes ?? system?.rssBytes;
  const peak = system?.memory?.peakRssBytes ?? system?.peakRssBytes;
  const feedClients = system?.feed?.clients ?? system?.feedClients ?? (typeof system?.feed === 'number' ? system.feed : undefined);
  const unready = Object.entries(system?.unready ?? {}).map(([part, why]) => (why?.part ? [why.process ? `${why.part} of ${why.process}` : why.part, why.message] : [part, why]));
  return html`<${PageHead} title="System" lead=${system ? `Tillstream ${system.version}, up for ${duration(uptime)}` : ''} />
    <${ProblemBox} problem=${error} retry=${reload} />
    ${unready.length > 0 && html`<div class="problem" role="alert"><strong>Not everything works</strong>${unready.map(([part, why]) => html`<span key=${part}>${part}: ${text(why)}</span>`)}</div>`}
    ${system?.parked?.length > 0 && html`<div class="problem" role="alert"><strong>Set aside, the others go on</strong>${system.parked.map((one) => html`<span key=${`${one.part} ${one.name} ${one.process}`}>${one.part}${one.process ? ` of ${one.process}` : ''}: ${one.name}, since ${dateTime(one.since)}: ${one.reason}</span>`)}</div>`}
    ${system && html`<dl class="tiles">
        ${Object.entries(totals).map(([key, value]) => html`<${Tile} key=${key} label=${words(key)} value=${count(value)} />`)}
        <${Tile} label="Memory" value=${bytes(rss)} />${peak !== undefined && html`<${Tile} label="Peak memory" value=${bytes(peak)} />`}
        <${Tile} label="Live pages" value=${count(feedClients)} />
        <${Tile} label="Bus" value=${text(system.bus)} textual /><${Tile} label="Store" value=${text(system.store)} textual /><${Tile} label="Roles" value=${(system.roles ?? []).join(', ')} textual />
      </dl>
      <section class="card"><h2>Throughput</h2>${rates[0].length < 2 ? html`<p class="muted plot">Two readings are needed before there is something to draw.</p>` : html`<${Plot} data=${rates} series=${SERIES} label="Events, derived events and dead letters per second over the last minutes" />`}</section>
      <h2 class="section-title">Processes</h2><${Processes} list=${system.processes ?? []} />
      <h2 class="section-title">Delivery</h2><${Delivery} delivery=${system.delivery ?? {}} />
      ${system.clocks?.length > 0 && html`<h2 class="section-title">Tills whose clock is wrong</h2><${Clocks} list=${system.clocks} />`}
      <h2 class="section-title">Partitions</h2><${Partitions} list=${system.partitions ?? []} />
      <h2 class="section-title">Actors</h2><${Actors} list=${Array.isArray(system.actors) ? system.actors : Object.entries(system.actors ?? {}).map(([name, one]) => ({ name, ...one }))} />`}`;
}
