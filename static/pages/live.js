// The live feed: filters on the server, pause that keeps buffering, one event whole with what it caused.
import { html, useEffect, useMemo, useState } from '../lib/html.js';
import { openFeed } from '../lib/feed.js';
import { count, time } from '../lib/format.js';
import { bindKeys } from '../lib/keys.js';
import { LiveBuffer } from '../lib/live-buffer.js';
import { EVENT_TYPES, eventKey, place, pluginOf, summary, typeName, words } from '../lib/names.js';
import { useResource } from '../lib/resource.js';
import { setQuery } from '../lib/router.js';
import { EventDetail } from '../ui/event-detail.js';
import { Badge, Empty, Filter, PageHead } from '../ui/parts.js';

const KINDS = [['event', 'Events', 'plain'], ['derived', 'Derived', 'ok'], ['log', 'Log', 'plain'], ['http', 'HTTP', 'info'], ['deadletter', 'Dead letters', 'bad'], ['control', 'Control', 'warn']];
const STATUS = { connecting: 'Connecting…', live: 'Live', waiting: 'Not connected, trying again' };
const TONES = Object.fromEntries(KINDS.map(([kind, , tone]) => [kind, tone]));
const SUGGESTED = ['pos.basket.*', 'pos.employee.*', 'pos.customer.*', 'pos.payment.*', 'pos.fraud.*', ...EVENT_TYPES];

// A list that moves shows no more than fits a screen; one that stands still can be scrolled.
const MOVING_ROWS = 60;
const STILL_ROWS = 300;

function Line({ item, picked, onPick }) {
  const event = item.event ?? {};
  return html`<button type="button" class="line" data-row data-seq=${item.seq} aria-pressed=${picked ? 'true' : 'false'} onClick=${() => onPick(item)}>
    <span class="muted num">${time(item.at)}</span>
    <span class="kind"><${Badge} tone=${TONES[item.kind]}>${item.kind}<//></span>
    <span title=${event.type}>${typeName(event.type ?? '') || (event.reason && item.kind === 'deadletter' ? words(event.reason) : pluginOf(event))}</span>
    <span class="where muted">${place(event).terminal}</span>
    <span class="muted">${summary(event)}</span>
  </button>`;
}

/** Opens the feed for these filters and gives the buffer and its state. */
function useLive(filters) {
  const [, redraw] = useState(0);
  const [status, setStatus] = useState('connecting');
  const buffer = useMemo(() => new LiveBuffer(() => redraw((n) => n + 1)), []);
  const key = JSON.stringify(filters);
  const { type, terminal, plugin } = filters;
  useEffect(() => buffer.clear(), [type, terminal, plugin]);
  useEffect(() => {
    // Typing a filter should not open a connection for every letter.
    let close = () => {};
    const timer = setTimeout(() => {
      close = openFeed(filters, { items: (items) => buffer.push(items), gap: (n) => buffer.gap(n), status: setStatus });
    }, 250);
    return () => {
      clearTimeout(timer);
      close();
    };
  }, [key]);
  useEffect(() => {
    const tick = setInterval(() => redraw((n) => n + 1), 1000);
    return () => {
      clearInterval(tick);
      buffer.close();
    };
  }, []);
  return { buffer, status };
}

export default function Live({ query }) {
  const { type = '', terminal = '', plugin = '' } = query;
  const { data: plugins } = useResource('/api/plugins');
  const [hidden, setHidden] = useState(new Set(['log']));
  const kind = KINDS.map(([id]) => id).filter((id) => !hidden.has(id));
  const { buffer, status } = useLive({ type, terminal, plugin, kind: hidden.size ? kind : [] });
  const [picked, setPicked] = useState(null);
  const [paused, setPaused] = useState(false);
  const [held, setHeld] = useState(null);

  const toggle = () => {
    if (buffer.paused) buffer.resume();
    else buffer.pause();
    setPaused(buffer.paused);
  };
  useEffect(() => bindKeys({
    ' ': { label: 'Pause and go on', run: toggle },
    c: { label: 'Clear', run: () => buffer.clear() },
  }), []);
  const flip = (kind) => setHidden((old) => {
    const next = new Set(old);
    if (!next.delete(kind)) next.add(kind);
    return next;
  });
  const still = paused || held !== null;
  const fresh = () => buffer.shown(still ? STILL_ROWS : MOVING_ROWS, (item) => !hidden.has(item.kind));
  // Nobody can click on a line that runs away: the list stands still under the pointer and while it has the focus.
  const hold = () => setHeld((old) => old ?? { rows: buffer.shown(STILL_ROWS, (item) => !hidden.has(item.kind)), received: buffer.received });
  const release = (event) => {
    const list = event.currentTarget;
    if (event.type === 'focusout' ? !list.contains(event.relatedTarget) && !list.matches(':hover') : !list.contains(document.activeElement)) setHeld(null);
  };
  useEffect(() => setHeld(null), [hidden, type, terminal, plugin]);
  const rows = held?.rows ?? fresh();
  const newer = held ? buffer.received - held.received : 0;
  const nearby = useMemo(() => (picked ? [...buffer.kept, ...buffer.waiting].map((item) => item.event) : []), [picked]);
  const names = (plugins?.items ?? plugins ?? []).map(({ name }) => ({ value: name, label: name }));
  const waiting = buffer.waiting.length + buffer.overflow;

  return html`<${PageHead} title="Live" lead="Everything as it is committed: what tills send, what plugins make of it.">
      <button type="button" class=${paused ? 'primary' : ''} aria-pressed=${paused ? 'true' : 'false'} data-pause onClick=${toggle}>${paused ? `Go on (${count(waiting)} waiting)` : 'Pause'}</button>
      <button type="button" onClick=${() => buffer.clear()}>Clear</button>
    <//>
    <div class="filters">
      <${Filter} label="Type" value=${type} list="event-types" placeholder="all, or pos.basket.*" width="wide" onChange=${(value) => setQuery({ type: value })} />
      <datalist id="event-types">${SUGGESTED.map((one) => html`<option key=${one} value=${one} />`)}</datalist>
      <${Filter} label="Terminal" value=${terminal} placeholder="all" onChange=${(value) => setQuery({ terminal: value })} />
      <${Filter} label="Plugin" value=${plugin} options=${[{ value: '', label: 'all' }, ...names]} onChange=${(value) => setQuery({ plugin: value })} />
    </div>
    <div class="live-bar">
      <span role="status"><span class=${`dot ${status}`}></span>${STATUS[status]}</span>
      <span class="muted">${count(buffer.perSecond())}/s</span>
      <span class="muted" data-received=${buffer.received}>${count(buffer.received)} received</span>
      <span class=${buffer.dropped ? '' : 'muted'} data-dropped=${buffer.dropped}>${count(buffer.dropped)} dropped</span>
      ${paused && html`<span data-waiting=${waiting}><${Badge} tone="warn">paused<//> ${count(waiting)} waiting${buffer.overflow > 0 ? `, the oldest ${count(buffer.overflow)} let go` : ''}</span>`}
      ${held && !paused && html`<span><${Badge} tone="info">standing still<//> ${count(newer)} newer</span>`}
      <span class="grow"></span>
      <span class="kinds" role="group" aria-label="Kinds that are shown">${KINDS.map(([kind, label]) => html`<button type="button" class="small" key=${kind} aria-pressed=${hidden.has(kind) ? 'false' : 'true'} onClick=${() => flip(kind)}>${label}</button>`)}</span>
    </div>
    <div class=${picked ? 'split with-detail' : 'split'}>
      <section class="card feed" aria-label="Feed" onMouseEnter=${hold} onMouseLeave=${release} onFocusIn=${hold} onFocusOut=${release}>
        ${rows.length ? rows.map((item, slot) => html`<${Line} key=${slot} item=${item} picked=${picked && eventKey(picked.event) === eventKey(item.event) && picked.seq === item.seq} onPick=${setPicked} />`)
          : html`<${Empty} title="Nothing yet">Events appear here as soon as they are committed.<//>`}
      </section>
      ${picked && html`<${EventDetail} event=${picked.event ?? {}} at=${picked.at} nearby=${nearby} onPick=${(event) => setPicked({ event, at: event.time })} onClose=${() => setPicked(null)} />`}
    </div>`;
}
