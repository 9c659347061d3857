// One event whole: what it says, what caused it, what it caused.
import { html, useEffect, useMemo, useState } from '../lib/html.js';
import { get } from '../lib/api.js';
import { dateTime, time } from '../lib/format.js';
import { eventKey, place, pluginOf, summary, typeName, words } from '../lib/names.js';
import { href } from '../lib/router.js';

/** An event that can be clicked, in one line. */
export const EventLink = ({ event, onPick }) => html`<button type="button" class="link" onClick=${() => onPick(event)}>
  ${time(event.time)} · ${typeName(event.type)}${pluginOf(event) ? ` (${pluginOf(event)})` : ''}: ${summary(event)}</button>`;

/** Events around this one: those at hand, and those that the server still has of the same terminal. */
function useRelatives(event, nearby) {
  const [stored, setStored] = useState([]);
  const terminal = place(event).terminal;
  const key = eventKey(event);
  useEffect(() => {
    setStored([]);
    if (!event.id || !terminal || !event.time) return undefined;
    const abort = new AbortController();
    const at = new Date(event.time).getTime();
    const around = (ms) => new Date(at + ms).toISOString();
    get('/api/events', { terminal, from: around(-60000), to: around(120000), limit: 500 }, { signal: abort.signal })
      .then((page) => setStored(page.items ?? []), () => {});
    return () => abort.abort();
  }, [key]);
  return useMemo(() => {
    const known = new Map();
    for (const other of [...nearby, ...stored.map((item) => item.event ?? item)]) if (other?.id) known.set(eventKey(other), other);
    // What rests on several events, or on the time that has gone by since, names them in its data.
    const caused = [...known.values()].filter((other) => other.causationid === key || other.data?.eventIds?.includes(key));
    return { cause: event.causationid ? known.get(event.causationid) : null, caused };
  }, [key, nearby, stored]);
}

/** The panel. `nearby`: events at hand; `onPick` shows another one. */
export function EventDetail({ event, at, nearby = [], onPick, onClose }) {
  const { cause, caused } = useRelatives(event, nearby);
  const { store, terminal } = place(event);
  const plugin = pluginOf(event);
  return html`<aside class="card detail" aria-label="Event" data-event-detail>
    <header><h2 class="grow">${typeName(event.type ?? '') || words(event.reason ?? '') || words(plugin) || 'Log'}</h2>
      ${onClose && html`<button type="button" class="icon" aria-label="Close" onClick=${onClose}>✕</button>`}</header>
    <p>${summary(event)}</p>
    <dl class="facts">
      ${event.type && html`<dt>Type</dt><dd class="mono">${event.type}</dd>`}
      <dt>Time</dt><dd>${dateTime(event.time ?? at)}</dd>
      ${store && html`<dt>Store</dt><dd>${store}</dd>`}
      ${terminal && html`<dt>Terminal</dt><dd><a href=${href(['terminal'], { terminal })}>${terminal}</a></dd>`}
      ${plugin && html`<dt>Plugin</dt><dd><a href=${href(['plugins', plugin])}>${plugin}</a></dd>`}
    </dl>
    ${event.causationid && html`<h3>Caused by</h3>${cause ? html`<${EventLink} event=${cause} onPick=${onPick} />` : html`<p class="mono muted">${event.causationid}</p>`}`}
    ${event.id && html`<h3>Caused</h3>${caused.length
      ? html`<div class="event-links">${caused.map((one) => html`<${EventLink} key=${eventKey(one)} event=${one} onPick=${onPick} />`)}</div>`
      : html`<p class="muted">Nothing that is known here.</p>`}`}
    ${event.topic && event.reason && html`<p><a href=${href(['deadletters'])}>Dead letters</a></p>`}
    <h3>${event.specversion ? 'As it is on the bus' : 'As it came'}</h3>
    <pre class="json" tabindex="0">${JSON.stringify(event, null, 2)}</pre>
  </aside>`;
}
