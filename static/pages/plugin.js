// One plugin: its switch, settings and eligibility as a form made from the schema, and the history of its changes.
import { html, useMemo, useState } from '../lib/html.js';
import { request } from '../lib/api.js';
import { changes } from '../forms/patch.js';
import { Changes, Conflict, SaveBar, useEditing } from '../forms/editing.js';
import { ErrorSummary, SchemaForm } from '../forms/form.js';
import { check } from '../forms/schema.js';
import { dateTime } from '../lib/format.js';
import { EVENT_TYPES, words } from '../lib/names.js';
import { useList, useResource } from '../lib/resource.js';
import { href } from '../lib/router.js';
import { toast } from '../lib/toast.js';
import { Empty, More, PageHead, ProblemBox, Switch, Tabs } from '../ui/parts.js';
import { Conditions } from './conditions.js';
import { Health, Members, Refused } from './members.js';
import { Stats, switchPlugin } from './plugins.js';
import { Recommendations } from './recommendations.js';

const TABS = [['settings', 'Settings'], ['eligibility', 'Which events'], ['history', 'History']];
/** What only one plugin has to show. */
const OWN_TABS = { 'purchase-recommender': [['results', 'Results']] };
/** What only plugins in other languages have to show. */
const EXTERNAL_TABS = [['members', 'Members']];
const LEADS = { settings: 'What the plugin goes by.', eligibility: 'Which events qualify for this plugin. An empty list means all.' };
const pick = ({ settings, eligibility }) => ({ settings, eligibility });

/** Loads the plugin and shows the tab. */
export function PluginPage({ name, tab = 'settings' }) {
  const path = `/api/plugins/${encodeURIComponent(name)}`;
  const { data, etag, error, reload, setData } = useResource(path, {}, { pollMs: 3000 });
  const [busy, setBusy] = useState(false);
  const flip = async (active) => {
    setBusy(true);
    try {
      await switchPlugin(name, active);
    } catch (problem) {
      toast(problem.message, 'error');
    } finally {
      setBusy(false);
      reload();
    }
  };
  if (data?.refused) {
    return html`<p class="crumbs"><a href=${href(['plugins'])}>Plugins</a></p><${PageHead} title=${name} /><${Refused} why=${data.refused} />`;
  }
  const isExternal = data?.kind === 'external';
  const tabs = [...TABS, ...(isExternal ? EXTERNAL_TABS : []), ...(OWN_TABS[name] ?? [])].map(([id, label]) => ({ id, label, href: href(['plugins', name], id === 'settings' ? {} : { tab: id }) }));
  return html`<p class="crumbs"><a href=${href(['plugins'])}>Plugins</a></p>
    <${PageHead} title=${words(name)} lead=${data?.description}>
      ${data && html`<${Health} plugin=${data} /><span class="state">${data.active ? 'On' : 'Off'}</span><${Switch} on=${data.active} busy=${busy} label=${`${words(name)} on`} onChange=${flip} />`}
    <//>
    <${ProblemBox} problem=${error} retry=${reload} />
    ${data?.fault && html`<div class="problem" role="alert"><strong>Cannot run</strong><span>${data.fault}</span></div>`}
    ${data && html`<${Stats} plugin=${data} /><${Conditions} conditions=${data.stats?.conditions} />
      <${Tabs} tabs=${tabs} current=${tab} label="Parts of the plugin" />
      <div hidden=${tab !== 'settings' && tab !== 'eligibility'}><${Editor} path=${path} loaded=${data} etag=${etag ?? `"${data.revision}"`} tab=${tab} onSaved=${setData} /></div>
      ${tab === 'history' && html`<${History} path=${path} revision=${data.revision} />`}
      ${tab === 'members' && isExternal && html`<${Members} plugin=${data} path=${path} onSaved=${setData} />`}
      ${tab === 'results' && html`<${Recommendations} />`}`}`;
}

function Editor({ path, loaded, etag, tab, onSaved }) {
  const { data: stores } = useResource('/api/stores');
  const { data: plugins } = useResource('/api/plugins');
  const suggestions = useMemo(() => suggest(plugins?.items ?? [], stores), [plugins, stores]);
  const save = (_draft, patch, tag, reason) => request('PATCH', path, {
    body: { ...patch, ...(reason ? { reason } : {}) },
    headers: { 'If-Match': tag, 'Content-Type': 'application/merge-patch+json' },
  }).then(({ data, etag: next }) => ({ data, etag: next ?? `"${data.revision}"` }));
  const checks = (draft) => ['settings', 'eligibility'].flatMap((part) => check(loaded.schema[part] ?? {}, loaded.schema[part], draft[part], part));
  const editing = useEditing({ path, loaded, etag, pick, save, checks, onSaved });
  const part = (id, title) => ({
    path: id, title, lead: LEADS[id], schema: loaded.schema[id] ?? {}, value: editing.draft[id] ?? {},
    onChange: (value) => editing.setDraft((old) => ({ ...old, [id]: typeof value === 'function' ? value(old[id]) : value })),
  });
  const elsewhere = editing.errors.some(({ field }) => !field.startsWith(tab));
  return html`<${Conflict} editing=${editing} />
    <${ErrorSummary} errors=${editing.errors} />
    ${elsewhere && editing.errors.length > 0 && html`<p class="muted">Some of these are on the other tab.</p>`}
    <${ProblemBox} problem=${editing.problem} />
    <div hidden=${tab !== 'settings'}><${SchemaForm} parts=${[part('settings', 'Settings')]} errors=${editing.errors} suggestions=${suggestions} /></div>
    <div hidden=${tab !== 'eligibility'}><${SchemaForm} parts=${[part('eligibility', 'Which events')]} errors=${editing.errors} suggestions=${suggestions} /></div>
    <${SaveBar} editing=${editing} />`;
}

/** Words to choose from, by the key that they are for: categories are those that some plugin's settings name already. */
function suggest(plugins, stores) {
  const known = stores?.stores ?? {};
  const named = ({ settings = {}, eligibility = {} }) => [eligibility, ...(settings.pairings ?? []), ...(settings.policies ?? [])].flatMap(({ category = [], categories = [] }) => [category, categories].flat());
  const categories = [...new Set(plugins.flatMap(named))].filter(Boolean).sort();
  return {
    eventTypes: EVENT_TYPES,
    stores: Object.keys(known),
    categories,
    category: categories,
    jurisdiction: [...new Set(Object.values(known).map((store) => store.jurisdiction).filter(Boolean))],
  };
}

function History({ path, revision }) {
  const list = useList(`${path}/history`, { limit: 50, revision: undefined });
  return html`<${ProblemBox} problem=${list.error} retry=${list.reload} />
    ${!list.loading && !list.error && list.items.length === 0 && html`<${Empty} title="No changes yet">The settings are those that came with the plugin.<//>`}
    <ol class="history" data-revision=${revision}>${list.items.map((entry) => html`<${Entry} key=${entry.id ?? entry.revision ?? entry.at} entry=${entry} />`)}</ol>
    <${More} list=${list} />`;
}

/** One change by a person: who, when, why, and what differs. Also used by the audit page. */
export function Entry({ entry, what }) {
  const list = changes(entry.old ?? entry.before ?? {}, entry.new ?? entry.after ?? {}).filter(({ path }) => !['revision', 'stats', 'schema'].includes(path));
  const who = entry.who ?? entry.actor ?? entry.by ?? entry.user;
  return html`<li class="card">
    <header><strong>${who || 'unknown'}</strong>${what && html` <span>${what}</span>`}<span class="grow"></span>
      ${entry.revision !== undefined && html`<span class="muted">revision ${entry.revision}</span>`}<time datetime=${entry.at}>${dateTime(entry.at)}</time></header>
    ${entry.reason && html`<p class="quote">${entry.reason}</p>`}
    ${list.length > 0 && (entry.old ?? entry.before ? html`<${Changes} list=${list} />` : html`<details><summary>What it began with</summary><${Changes} list=${list} /></details>`)}
  </li>`;
}
