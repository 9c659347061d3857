// Dead letters: what could not be processed, why, its bytes; replay or discard, one by one or many at once.
import { html, useEffect, useState } from '../lib/html.js';
import { request } from '../lib/api.js';
import { count, dateTime, shortDateTime } from '../lib/format.js';
import { words } from '../lib/names.js';
import { useList, useResource } from '../lib/resource.js';
import { setQuery } from '../lib/router.js';
import { toast } from '../lib/toast.js';
import { ask } from '../ui/dialog.js';
import { Badge, Empty, Filter, More, PageHead, ProblemBox } from '../ui/parts.js';
import { Bytes } from '../ui/bytes.js';

const TONE = { open: 'warn', replayed: 'ok', discarded: 'plain' };
const WORDS = { replay: { did: 'replayed', verb: 'Replay', what: 'They are processed again, each once; what is still wrong comes back here.' }, discard: { did: 'discarded', verb: 'Discard', what: 'They are kept, but nobody is asked about them again.' } };
const isTimer = (letter) => letter.reason === 'timer_failed';
const pending = (letter) => letter.status === 'open' && Boolean(letter.replayRequestedAt);
const letters = (n) => `${count(n)} dead ${n === 1 ? 'letter' : 'letters'}`;

function Detail({ letter, act, onClose }) {
  return html`<aside class="card detail" aria-label="Dead letter" data-letter=${letter.id}>
    <header><h2 class="grow">${words(letter.reason)}</h2><button type="button" class="icon" aria-label="Close" onClick=${onClose}>✕</button></header>
    <p>${letter.message}</p>
    <dl class="facts">
      ${letter.field && html`<dt>Field</dt><dd class="mono">${letter.field}</dd>`}
      <dt>Status</dt><dd><${Badge} tone=${TONE[letter.status]}>${letter.status}<//>${pending(letter) && html` <span class="muted">its replay is under way</span>`}</dd>
      ${letter.entity && html`<dt>Entity</dt><dd>${letter.entity}</dd>`}
      ${letter.plugin && html`<dt>Plugin</dt><dd>${letter.plugin}</dd>`}
      <dt>When</dt><dd>${dateTime(letter.at)}</dd>
      <dt>Where</dt><dd class="mono">${letter.topic} / ${letter.partition} / ${letter.offset}</dd>
      ${letter.key && html`<dt>Key</dt><dd class="mono">${letter.key}</dd>`}
      ${letter.attempts > 0 && html`<dt>Attempts</dt><dd>${letter.attempts}</dd>`}
    </dl>
    ${letter.status === 'open' && !pending(letter) && html`${isTimer(letter) && html`<p class="muted">A timer cannot be replayed: the plugin looks at ${letter.entity} again with its next event.</p>`}
      <div class="actions section-title">${!isTimer(letter) && html`<button type="button" class="primary" onClick=${() => act('replay', [letter.id])}>Replay</button>`}
      <button type="button" onClick=${() => act('discard', [letter.id])}>Discard</button></div>`}
    ${letter.headers && html`<h3>Its headers</h3><dl class="facts mono" data-headers>${letter.headers.map(({ name, value }) => html`<dt>${name}</dt><dd>${value}</dd>`)}</dl>`}
    <h3>${isTimer(letter) ? 'When the timer was due' : 'The message as it came'}</h3><${Bytes} base64=${letter.bytesBase64} />
  </aside>`;
}

export default function DeadLetters({ query }) {
  const { status = 'open', reason = '', plugin = '', terminal = '' } = query;
  const filter = { status: status === 'all' ? '' : status, reason, plugin, terminal };
  const list = useList('/api/deadletters', { ...filter, limit: 50 }, { pollMs: 5000 });
  const { data: plugins } = useResource('/api/plugins');
  const [picked, setPicked] = useState(null);
  // A link from elsewhere names the letter that it is about; the list may not hold it.
  const { data: linked } = useResource(query.id ? `/api/deadletters/${encodeURIComponent(query.id)}` : null);
  useEffect(() => { if (linked) setPicked(linked); }, [linked]);
  const [chosen, setChosen] = useState(new Set());
  const [busy, setBusy] = useState(false);
  useEffect(() => setChosen(new Set()), [status, reason, plugin, terminal]);
  const letter = picked && (list.items.find((one) => one.id === picked.id) ?? picked);
  const open = list.items.filter((one) => one.status === 'open');
  const selected = open.filter((one) => chosen.has(one.id));

  const run = async (action, call) => {
    setBusy(true);
    try {
      const { affected = 1, skipped = 0 } = (await call()) ?? {};
      toast(`${letters(affected)} ${WORDS[action].did}.${skipped ? ` ${count(skipped)} left out: they still are no valid events, or cannot be replayed now.` : ''}`);
      setChosen(new Set());
    } catch (error) {
      toast(`Not ${WORDS[action].did}: ${error.message}`, 'error');
    } finally {
      setBusy(false);
      list.reload();
    }
  };
  const bulk = (action, body) => run(action, async () => (await request('POST', `/api/deadletters/${action}`, { body })).data);
  const act = (action, ids) => (ids.length === 1
    ? run(action, async () => { setPicked((await request('POST', `/api/deadletters/${encodeURIComponent(ids[0])}/${action}`)).data); })
    : bulk(action, { ids }));
  const { verb } = WORDS.replay;
  const actSelected = async (action) => {
    const ids = selected.map((one) => one.id);
    if (await ask({ title: `${WORDS[action].verb} ${letters(ids.length)}?`, text: WORDS[action].what, action: WORDS[action].verb, danger: action === 'discard' })) await bulk(action, { ids });
  };
  const actAll = async (action) => {
    const which = [reason && `reason “${reason}”`, plugin && `plugin “${plugin}”`, terminal && `terminal “${terminal}”`].filter(Boolean).join(' and ');
    const text = `Every open dead letter${which ? ` with ${which}` : ''}, also those further down the list. ${WORDS[action].what}`;
    if (await ask({ title: `${WORDS[action].verb} all${which ? ' of this filter' : ''}?`, text, action: `${WORDS[action].verb} all`, danger: action === 'discard' })) {
      await bulk(action, { status: 'open', ...(reason ? { reason } : {}), ...(plugin ? { plugin } : {}), ...(terminal ? { terminal } : {}) });
    }
  };
  const flip = (id) => setChosen((old) => {
    const next = new Set(old);
    if (!next.delete(id)) next.add(id);
    return next;
  });
  const reasons = [...new Set(list.items.map((one) => one.reason))].sort();
  const names = (plugins?.items ?? plugins ?? []).map(({ name }) => ({ value: name, label: name }));

  return html`<${PageHead} title="Dead letters" lead="What could not be processed or delivered, kept whole until somebody decides." />
    <div class="filters">
      <${Filter} label="Status" value=${status} options=${['open', 'replayed', 'discarded', 'all'].map((value) => ({ value, label: words(value) }))} onChange=${(value) => setQuery({ status: value })} />
      <${Filter} label="Reason" value=${reason} list="reasons" placeholder="all" onChange=${(value) => setQuery({ reason: value })} />
      <datalist id="reasons">${reasons.map((one) => html`<option key=${one} value=${one} />`)}</datalist>
      <${Filter} label="Plugin" value=${plugin} options=${[{ value: '', label: 'all' }, ...names]} onChange=${(value) => setQuery({ plugin: value })} />
      <${Filter} label="Terminal" value=${terminal} placeholder="all" onChange=${(value) => setQuery({ terminal: value })} />
    </div>
    <${ProblemBox} problem=${list.error} retry=${list.reload} />
    ${!list.loading && !list.error && list.items.length === 0 ? html`<${Empty} title="No dead letters">${status === 'open' && !reason && !plugin && !terminal ? 'Everything was processed and delivered.' : 'None with these filters.'}<//>` : html`<div class=${letter ? 'split with-detail' : 'split'}>
      <div class="card table-card">
        ${open.length > 0 && html`<div class="bulk" role="group" aria-label="Many at once"><span class="grow" aria-live="polite">${selected.length ? `${count(selected.length)} selected` : 'Select some, or take all of this filter'}</span>
          ${selected.length > 0
            ? html`<button type="button" class="small primary" disabled=${busy} onClick=${() => actSelected('replay')}>${verb} selected</button><button type="button" class="small" disabled=${busy} onClick=${() => actSelected('discard')}>Discard selected</button>`
            : html`<button type="button" class="small" disabled=${busy} onClick=${() => actAll('replay')}>Replay all</button><button type="button" class="small" disabled=${busy} onClick=${() => actAll('discard')}>Discard all</button>`}</div>`}
        <div class="scroll"><table class="list"><thead><tr>
          <th scope="col"><input type="checkbox" aria-label="Select all that are shown" checked=${open.length > 0 && selected.length === open.length} onChange=${() => setChosen(selected.length === open.length ? new Set() : new Set(open.map((one) => one.id)))} /></th>
          <th scope="col">When</th><th scope="col">Reason</th><th scope="col">Message</th><th scope="col" class="where-column">Where</th><th scope="col">Status</th></tr></thead>
          <tbody>${list.items.map((one) => html`<tr key=${one.id} class=${letter?.id === one.id ? 'selected' : ''}>
            <td><input type="checkbox" aria-label=${`Select the dead letter at offset ${one.offset}`} disabled=${one.status !== 'open'} checked=${chosen.has(one.id) && one.status === 'open'} onChange=${() => flip(one.id)} /></td>
            <td class="nowrap">${shortDateTime(one.at)}</td>
            <td><button type="button" class="link" data-row onClick=${() => setPicked(one)}>${words(one.reason)}</button>${one.plugin && html`<div class="muted">${one.plugin}</div>`}</td>
            <td class="wrap">${one.field && html`<span class="mono">${one.field}</span> `}<span class="muted">${one.message}</span></td>
            <td class="mono nowrap where-column">${one.topic}/${one.partition}/${one.offset}</td><td><${Badge} tone=${TONE[one.status]}>${one.status}<//></td></tr>`)}</tbody></table></div>
      </div>
      ${letter && html`<${Detail} key=${letter.id} letter=${letter} act=${act} onClose=${() => setPicked(null)} />`}
    </div>`}
    <${More} list=${list} />`;
}
