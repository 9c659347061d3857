// What only plugins in other languages have: their members and how these do, and what becomes of input while the plugin is off.
import { html, useState } from '../lib/html.js';
import { request } from '../lib/api.js';
import { count, dateTime } from '../lib/format.js';
import { toast } from '../lib/toast.js';
import { Badge, Empty } from '../ui/parts.js';

const TONE = { running: 'ok', off: 'plain', failing: 'bad' };
const WHILE_OFF = { wait: 'waits until it is on again', skip: 'is skipped when it is on again' };

/** More records that wait than a plugin that keeps up ever has between two heartbeats. */
const BEHIND = 100;

/** A word or two on how a plugin in another language does, in the list and on its page. */
export function Health({ plugin }) {
  if (plugin.kind !== 'external' || plugin.refused) return null;
  const alive = plugin.members.filter((member) => member.alive);
  if (alive.length === 0) return html`<${Badge} tone=${plugin.active ? 'bad' : 'plain'}>Not running<//>`;
  const failing = alive.some((member) => member.state === 'failing');
  const lag = alive.reduce((sum, member) => sum + member.lag, 0);
  const [tone, word] = failing ? ['bad', 'Failing'] : plugin.active ? ['ok', `${count(alive.length)} running`] : ['plain', `${count(alive.length)} ready`];
  return html`<${Badge} tone=${tone}>${word}<//>
    ${lag >= BEHIND && html` <${Badge} tone=${plugin.active ? 'warn' : 'plain'}>${count(lag)} ${plugin.active ? 'behind' : 'waiting'}<//>`}`;
}

/** Says that a manifest was refused, and why. */
export function Refused({ why }) {
  return html`<div class="problem" role="alert"><strong>Its manifest was refused</strong><span>${why}</span></div>`;
}

/** Members with version, settings, lag and errors, and the choice for what lies in the input. */
export function Members({ plugin, path, onSaved }) {
  const [busy, setBusy] = useState(false);
  const choose = async (event) => {
    setBusy(true);
    try {
      const { data, etag } = await request('PATCH', path, { body: { whileOff: event.target.value }, headers: { 'Content-Type': 'application/merge-patch+json' } });
      onSaved(data, etag);
      toast('Saved.');
    } catch (error) {
      toast(error.message, 'error');
    } finally {
      setBusy(false);
    }
  };
  return html`<section class="card">
      <dl class="facts"><dt>Version</dt><dd>${plugin.version}</dd><dt>Scope</dt><dd>${plugin.scope}</dd>
        <dt>Event types</dt><dd class="mono">${plugin.eventTypes.join(', ')}</dd></dl>
      <label class="filter">While it is off, its input <select id="whileOff" disabled=${busy} onChange=${choose}>
        ${Object.entries(WHILE_OFF).map(([value, text]) => html`<option key=${value} value=${value} selected=${plugin.whileOff === value}>${text}</option>`)}
      </select></label>
    </section>
    ${plugin.members.length === 0 ? html`<${Empty} title="Not running">No member has been heard of. Start the program; it tells of itself every few seconds.<//>`
    : html`<div class="card table-card"><div class="scroll"><table class="list"><thead><tr><th>Member</th><th>State</th><th>Version</th><th class="num">Settings</th><th class="num">Lag</th><th class="num">Processed</th><th class="num">Errors</th><th>Last error</th><th>Heard</th></tr></thead>
      <tbody>${plugin.members.map((member) => html`<tr key=${member.member} data-member=${member.member}>
        <td class="mono">${member.member}</td><td><${Badge} tone=${member.alive ? TONE[member.state] ?? 'plain' : 'bad'}>${member.alive ? member.state : 'gone'}<//></td>
        <td>${member.version}</td><td class="num">${member.revision === plugin.revision ? `revision ${member.revision}` : `revision ${member.revision} of ${plugin.revision}`}</td>
        <td class="num">${count(member.lag)}</td><td class="num">${count(member.processed)}</td><td class="num">${count(member.errors)}</td>
        <td>${member.lastError ?? ''}</td><td class="nowrap">${member.at ? dateTime(member.at) : ''}</td></tr>`)}</tbody></table></div></div>`}`;
}
