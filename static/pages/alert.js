// One alert: why it fired, the events it rests on, and the decision about it.
import { html, useEffect, useState } from '../lib/html.js';
import { request } from '../lib/api.js';
import { count, dateTime, duration, time } from '../lib/format.js';
import { eventKey, place, summary, typeName, words } from '../lib/names.js';
import { useResource } from '../lib/resource.js';
import { href } from '../lib/router.js';
import { toast } from '../lib/toast.js';
import { EventDetail } from '../ui/event-detail.js';
import { Badge, PageHead, ProblemBox, severityTone } from '../ui/parts.js';
import { STATUS_TONE } from './alerts.js';

const figure = (value) => (Number.isInteger(value) ? count(value) : Number.isFinite(value) ? String(Math.round(value * 1000) / 1000) : '–');

/** Observed against the limit. */
function Meter({ observed, limit }) {
  if (!Number.isFinite(observed) || !Number.isFinite(limit)) return null;
  const top = Math.max(observed, limit) * 1.1 || 1;
  const percent = (value) => `${Math.min(100, Math.max(0, (value / top) * 100))}%`;
  return html`<div class="meter" role="img" aria-label=${`observed ${figure(observed)}, limit ${figure(limit)}`}>
    <span class="fill" style=${{ width: percent(observed) }}></span>
    <span class="limit" style=${{ left: percent(limit) }}></span>
    <span class="limit-label" style=${{ left: percent(limit) }}>limit ${figure(limit)}</span>
  </div>`;
}

function Decision({ alert, onSaved }) {
  const [form, setForm] = useState({ status: alert.status, disposition: alert.disposition ?? '', assignee: alert.assignee ?? '', note: alert.note ?? '' });
  const [problem, setProblem] = useState(null);
  const [busy, setBusy] = useState(false);
  useEffect(() => setForm({ status: alert.status, disposition: alert.disposition ?? '', assignee: alert.assignee ?? '', note: alert.note ?? '' }), [alert.id, alert.status, alert.disposition, alert.assignee, alert.note]);
  const set = (key) => (event) => setForm({ ...form, [key]: event.currentTarget.value });
  const save = async (event, status = form.status) => {
    event.preventDefault();
    setBusy(true);
    setProblem(null);
    try {
      const body = { status, disposition: form.disposition || null, assignee: form.assignee || null, note: form.note || null };
      const { data } = await request('PATCH', `/api/alerts/${encodeURIComponent(alert.id)}`, { body, headers: { 'Content-Type': 'application/merge-patch+json' } });
      onSaved(data);
      toast(status === 'closed' ? 'The alert is closed.' : 'Saved.');
    } catch (error) {
      setProblem(error);
    } finally {
      setBusy(false);
    }
  };
  const errorOf = (field) => problem?.errors?.filter((one) => one.field === field).map((one) => html`<div class="field-error" key=${one.message}>${one.message}</div>`);
  return html`<form class="card note-form" onSubmit=${save} aria-label="Decision">
    <h2>Decision</h2>
    <div class="fields">
      <div class="field"><label for="alert-status">Status</label><select id="alert-status" value=${form.status} onChange=${set('status')}>
        ${['new', 'acknowledged', 'closed'].map((one) => html`<option key=${one} value=${one} selected=${one === form.status}>${words(one)}</option>`)}</select>${errorOf('status')}</div>
      <div class="field"><label for="alert-disposition">What it was</label><select id="alert-disposition" value=${form.disposition} onChange=${set('disposition')}>
        <option value="" selected=${!form.disposition}>not decided</option>${['fraud', 'mistake', 'false_alarm'].map((one) => html`<option key=${one} value=${one} selected=${one === form.disposition}>${words(one)}</option>`)}</select>${errorOf('disposition')}</div>
      <div class="field"><label for="alert-assignee">Assigned to</label><input id="alert-assignee" value=${form.assignee} onInput=${set('assignee')} autocomplete="off" />${errorOf('assignee')}</div>
    </div>
    <div class="field"><label for="alert-note">Note</label><textarea id="alert-note" rows="3" value=${form.note} onInput=${set('note')}></textarea>${errorOf('note')}</div>
    <${ProblemBox} problem=${problem} />
    <div class="actions end"><button disabled=${busy}>Save</button>
      ${alert.status !== 'closed' && html`<button type="button" class="primary" disabled=${busy || !form.disposition} title=${form.disposition ? '' : 'Say what it was first'} onClick=${(event) => save(event, 'closed')}>Close alert</button>`}</div>
  </form>`;
}

/** The page of one alert. */
export function AlertPage({ id }) {
  const [complete, setComplete] = useState(false);
  // The events are copied to the alert a moment after it is raised.
  const { data: alert, error, reload, setData } = useResource(`/api/alerts/${encodeURIComponent(id)}`, {}, { pollMs: complete ? 0 : 2000 });
  useEffect(() => setComplete(Boolean(alert?.events)), [alert]);
  const [picked, setPicked] = useState(null);
  if (!alert) return html`<p class="crumbs"><a href=${href(['alerts'])}>Alerts</a></p><${ProblemBox} problem=${error} retry=${reload} />${!error && html`<p class="muted">Loading…</p>`}`;
  const events = (alert.events ?? []).map((item) => item.event ?? item);
  return html`<p class="crumbs"><a href=${href(['alerts'])}>Alerts</a></p>
    <${PageHead} title=${alert.message ?? alert.ruleId} lead=${dateTime(alert.at)}><${Badge} tone=${severityTone(alert.severity)}>${alert.severity}<//><${Badge} tone=${STATUS_TONE[alert.status]}>${alert.status}<//>${alert.shadow && html`<${Badge}>on trial<//>`}<//>
    <${ProblemBox} problem=${error} retry=${reload} />
    <div class="till">
      <section class="card" aria-label="Why it fired"><h2>Why it fired</h2>
        <p class="row"><b class="figure">${figure(alert.observed)}</b><span class="muted">observed, the limit is ${figure(alert.limit)}${alert.windowSeconds ? `, within ${duration(alert.windowSeconds)}` : ''}</span></p>
        <${Meter} observed=${alert.observed} limit=${alert.limit} />
        <dl class="facts">
          <dt>Rule</dt><dd><a href=${href(['plugins', 'fraud-detection'])}>${alert.ruleId}</a> <span class="muted">revision ${alert.ruleRevision}</span></dd>
          <dt>${words(alert.scope ?? 'entity')}</dt><dd>${alert.entity} <a href=${href(['alerts'], { entity: alert.entity })}>all alerts</a></dd>
          ${alert.employeeId && alert.scope !== 'employee' && html`<dt>Employee</dt><dd>${alert.employeeId}</dd>`}
          <dt>Store</dt><dd>${alert.storeId}</dd>
          ${alert.terminalId && html`<dt>Till</dt><dd><a href=${href(['terminal'], { terminal: alert.terminalId })}>${alert.terminalId}</a></dd>`}
        </dl></section>
      <${Decision} alert=${alert} onSaved=${(data) => setData({ ...alert, ...data, events: data.events ?? alert.events })} />
    </div>
    <h2 class="section-title">Events it rests on <span class="muted">${events.length || (alert.eventIds ?? []).length}</span></h2>
    <div class=${picked ? 'split with-detail' : 'split'}>
      <div class="card table-card"><div class="scroll"><table class="list"><thead><tr><th scope="col">Time</th><th scope="col">Event</th><th scope="col">Till</th><th scope="col">Details</th></tr></thead>
        <tbody>${events.map((event) => html`<tr key=${eventKey(event)} class=${picked === event ? 'selected' : ''}><td class="nowrap">${time(event.time)}</td>
          <td class="nowrap"><button type="button" class="link" data-row onClick=${() => setPicked(event)}>${typeName(event.type)}</button></td><td>${place(event).terminal}</td><td class="wrap">${summary(event)}</td></tr>`)}
        ${!events.length && (alert.eventIds ?? []).map((key) => html`<tr key=${key}><td colspan="4" class="mono">${key}</td></tr>`)}</tbody></table></div></div>
      ${picked && html`<${EventDetail} event=${picked} nearby=${events} onPick=${setPicked} onClose=${() => setPicked(null)} />`}
    </div>`;
}
