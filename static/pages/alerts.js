// Fraud alerts: the list with its filters, and one alert with why it fired and what became of it.
import { html } from '../lib/html.js';
import { shortDateTime } from '../lib/format.js';
import { words } from '../lib/names.js';
import { useList } from '../lib/resource.js';
import { href, setQuery } from '../lib/router.js';
import { Badge, Empty, Filter, More, PageHead, ProblemBox, severityTone } from '../ui/parts.js';
import { AlertPage } from './alert.js';

export const STATUS_TONE = { new: 'bad', acknowledged: 'warn', closed: 'plain' };
const anyOf = (...values) => [{ value: '', label: 'all' }, ...values.map((value) => ({ value, label: words(value) }))];

function AlertList({ query }) {
  const { status = '', severity = '', ruleId = '', entity = '', shadow = '' } = query;
  const list = useList('/api/alerts', { status, severity, ruleId, entity, shadow, limit: 50 }, { pollMs: 5000 });
  const filtered = Boolean(status || severity || ruleId || entity || shadow);
  const rules = [...new Set(list.items.map((alert) => alert.ruleId))].sort();
  return html`<${PageHead} title="Alerts" lead="What the fraud rules found. Open one to see the events it rests on." />
    <div class="filters">
      <${Filter} label="Status" value=${status} options=${anyOf('new', 'acknowledged', 'closed')} onChange=${(value) => setQuery({ status: value })} />
      <${Filter} label="Severity" value=${severity} options=${anyOf('high', 'medium', 'low')} onChange=${(value) => setQuery({ severity: value })} />
      <${Filter} label="Rule" value=${ruleId} list="alert-rules" placeholder="all" onChange=${(value) => setQuery({ ruleId: value })} />
      <datalist id="alert-rules">${rules.map((rule) => html`<option key=${rule} value=${rule} />`)}</datalist>
      <${Filter} label="Employee, card, …" value=${entity} placeholder="all" onChange=${(value) => setQuery({ entity: value })} />
      <${Filter} label="Rules" value=${shadow} options=${[{ value: '', label: 'Active' }, { value: 'true', label: 'On trial (shadow)' }]} onChange=${(value) => setQuery({ shadow: value })} />
      ${filtered && html`<button type="button" class="quiet" onClick=${() => setQuery({ status: '', severity: '', ruleId: '', entity: '', shadow: '' })}>Clear filters</button>`}
    </div>
    <${ProblemBox} problem=${list.error} retry=${list.reload} />
    ${!list.loading && !list.error && list.items.length === 0
      ? html`<${Empty} title=${filtered ? 'No alert fits these filters' : 'No alerts'}>${filtered ? '' : 'The rules have found nothing so far.'}<//>`
      : html`<div class="card table-card"><div class="scroll"><table class="list"><thead><tr><th scope="col">When</th><th scope="col">Severity</th><th scope="col">What</th><th scope="col">Who</th><th scope="col">Till</th><th scope="col">Status</th></tr></thead>
        <tbody>${list.items.map((alert) => html`<tr key=${alert.id}>
          <td class="nowrap"><time datetime=${alert.at}>${shortDateTime(alert.at)}</time></td>
          <td><${Badge} tone=${severityTone(alert.severity)}>${alert.severity}<//></td>
          <td class="wrap"><a href=${href(['alerts', alert.id])} data-row>${alert.message}</a><div class="muted mono">${alert.ruleId}</div></td>
          <td><span class="muted">${alert.scope}</span> ${alert.entity}</td>
          <td>${alert.terminalId ?? '–'}</td>
          <td class="nowrap"><${Badge} tone=${STATUS_TONE[alert.status]}>${alert.status}<//>${alert.disposition && html`<div class="muted">${words(alert.disposition)}</div>`}${alert.assignee && html`<div class="muted">${alert.assignee}</div>`}</td>
        </tr>`)}</tbody></table></div></div>`}
    <${More} list=${list} />`;
}

export default function Alerts({ path, query }) {
  return path[0] ? html`<${AlertPage} id=${path[0]} />` : html`<${AlertList} query=${query} />`;
}
