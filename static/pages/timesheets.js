// Time sheets: sessions and totals of a span of days, and the same as CSV.
import { html, useState } from '../lib/html.js';
import { Problem, request } from '../lib/api.js';
import { count, day, hours, shortDateTime } from '../lib/format.js';
import { words } from '../lib/names.js';
import { useList, useResource } from '../lib/resource.js';
import { setQuery } from '../lib/router.js';
import { toast } from '../lib/toast.js';
import { Badge, Empty, Filter, More, PageHead, ProblemBox } from '../ui/parts.js';

const GROUPS = [['employee', 'Employee', 'employeeId'], ['terminal', 'Terminal', 'terminalId'], ['store', 'Store', 'storeId'], ['businessDay', 'Business day', 'businessDay']];
const CAUSE_TONE = { idle: 'warn', maximum_shift: 'warn', login_elsewhere: 'info' };

const dayAfter = (date) => {
  const next = new Date(`${date}T12:00:00Z`);
  next.setUTCDate(next.getUTCDate() + 1);
  return next.toISOString().slice(0, 10);
};

/** Saves what the server answers as CSV, under a name that says what it is. */
async function download(path, query, name) {
  try {
    const { data } = await request('GET', path, { query, accept: 'text/csv' });
    const link = document.createElement('a');
    link.href = URL.createObjectURL(data);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    toast(`No CSV: ${error.message}`, 'error');
  }
}

function Totals({ span, groupBy }) {
  const { data, error, reload } = useResource('/api/timesheets/totals', { ...span, groupBy }, { pollMs: 15000 });
  const [, label, field] = GROUPS.find(([id]) => id === groupBy) ?? GROUPS[0];
  const rows = data?.items ?? (Array.isArray(data) ? data : []);
  const name = (row) => row[field] ?? row.key ?? row.group ?? row[groupBy] ?? '–';
  const sum = (key) => rows.reduce((total, row) => total + (row[key] ?? 0), 0);
  return html`<${ProblemBox} problem=${error} retry=${reload} />
    <div class="card table-card"><div class="scroll"><table class="list" data-totals><thead><tr><th scope="col">${label}</th><th scope="col" class="num">Sessions</th><th scope="col" class="num">Hours</th><th scope="col" class="num">Paid hours</th></tr></thead>
      <tbody>${rows.map((row) => html`<tr key=${name(row)}><th scope="row">${name(row)}</th><td class="num">${count(row.sessions ?? row.count)}</td><td class="num">${hours(row.seconds)}</td><td class="num"><b>${hours(row.paidSeconds)}</b></td></tr>`)}
      ${rows.length > 1 && html`<tr><th scope="row">All</th><td class="num">${count(sum('sessions'))}</td><td class="num">${hours(sum('seconds'))}</td><td class="num"><b>${hours(sum('paidSeconds'))}</b></td></tr>`}
      ${data && !rows.length && html`<tr><td colspan="4" class="muted">No sessions in these days.</td></tr>`}</tbody></table></div></div>`;
}

export default function TimeSheets({ query }) {
  const from = query.from ?? day(-6);
  const to = query.to ?? day(0);
  const { employeeId = '', groupBy = 'employee' } = query;
  const [busy, setBusy] = useState(false);
  const wrong = from > to ? { title: 'These days are the wrong way round', detail: 'The first day must not be after the last.' } : null;
  const span = { from, to: dayAfter(to), employeeId };
  const list = useList('/api/timesheets', { ...span, limit: 100 }, { pollMs: 15000 });
  const csv = async () => {
    setBusy(true);
    await download('/api/timesheets', span, `timesheets-${from}-to-${to}${employeeId ? `-${employeeId}` : ''}.csv`);
    setBusy(false);
  };
  return html`<${PageHead} title="Time sheets" lead="Sessions at the tills by business day. Time at two tills at once is paid once.">
      <button type="button" data-csv disabled=${busy || Boolean(wrong)} onClick=${csv}>Download CSV</button><//>
    <div class="filters">
      <${Filter} label="From" type="date" value=${from} onChange=${(value) => value && setQuery({ from: value })} />
      <${Filter} label="To, inclusive" type="date" value=${to} onChange=${(value) => value && setQuery({ to: value })} />
      <${Filter} label="Employee" value=${employeeId} placeholder="all" onChange=${(value) => setQuery({ employeeId: value })} />
      <${Filter} label="Totals by" value=${groupBy} options=${GROUPS.map(([value, label]) => ({ value, label }))} onChange=${(value) => setQuery({ groupBy: value })} />
    </div>
    <${ProblemBox} problem=${wrong ?? list.error} retry=${wrong ? undefined : list.reload} />
    <h2 class="section-title">Totals</h2>
    <p class="muted">Hours count once a session has ended.</p>
    <${Totals} span=${span} groupBy=${groupBy} />
    <h2 class="section-title">Sessions</h2>
    ${!list.loading && list.items.length === 0
      ? html`<${Empty} title="No sessions">Nobody was logged in during these days.<//>`
      : html`<div class="card table-card"><div class="scroll"><table class="list"><thead><tr><th scope="col">Employee</th><th scope="col">Business day</th><th scope="col">Till</th><th scope="col">Login</th><th scope="col">Logout</th><th scope="col" class="num">Hours</th><th scope="col" class="num">Paid</th><th scope="col">Ended by</th></tr></thead>
        <tbody>${list.items.map((one) => html`<tr key=${one.id}><th scope="row"><button type="button" class="link" data-row onClick=${() => setQuery({ employeeId: one.employeeId })}>${one.employeeId}</button></th>
          <td class="nowrap">${one.businessDay}</td><td>${one.terminalId} <span class="muted">${one.storeId}</span></td>
          <td class="nowrap">${shortDateTime(one.loginAt)}</td><td class="nowrap">${one.logoutAt ? shortDateTime(one.logoutAt) : html`<${Badge} tone="ok">logged in<//>`}</td>
          <td class="num">${one.logoutAt ? hours(one.seconds) : html`<span class="muted" title="so far">${hours((Date.now() - new Date(one.loginAt)) / 1000)}…</span>`}</td><td class="num">${one.logoutAt ? hours(one.paidSeconds) : '–'}</td>
          <td>${one.cause && (CAUSE_TONE[one.cause] ? html`<${Badge} tone=${CAUSE_TONE[one.cause]}>${words(one.cause)}<//>` : words(one.cause))} ${(one.flags ?? []).map((flag) => html`<${Badge} key=${flag} tone="warn">${flag}<//> `)}</td></tr>`)}</tbody></table></div></div>`}
    <${More} list=${list} />`;
}
