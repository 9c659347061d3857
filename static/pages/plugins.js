// The list of plugins with their switches and figures; one plugin is shown by plugin.js.
import { html, useEffect, useState } from '../lib/html.js';
import { request } from '../lib/api.js';
import { ago, brief, count } from '../lib/format.js';
import { words } from '../lib/names.js';
import { useResource } from '../lib/resource.js';
import { href } from '../lib/router.js';
import { toast } from '../lib/toast.js';
import { Empty, PageHead, ProblemBox, Switch } from '../ui/parts.js';
import { Health, Refused } from './members.js';
import { PluginPage } from './plugin.js';

/** Flips a plugin's switch and says what happened; resolves to the new state. */
export async function switchPlugin(name, active) {
  const { data, etag } = await request('PATCH', `/api/plugins/${encodeURIComponent(name)}`, { body: { active }, headers: { 'Content-Type': 'application/merge-patch+json' } });
  toast(`${words(name)} is ${active ? 'on' : 'off'}.`);
  return { data, etag };
}

/** The figures of one plugin. What one in another language published, only the bus knows; its members say what they have done. */
export function Stats({ plugin: { stats = {}, kind, members }, now }) {
  const processed = () => members.reduce((sum, member) => sum + member.processed, 0);
  const done = kind === 'external' ? ['Processed', processed()] : ['Effects', stats.effects];
  const figures = [['Consumed', stats.consumed], ['Skipped', stats.skipped], done, ['Errors', stats.errors]];
  return html`<dl class="stats">${figures.map(([label, value]) => html`<div key=${label} class=${label === 'Errors' && value > 0 ? 'bad' : ''}>
    <dt>${label}</dt><dd title=${count(value)}>${brief(value)}</dd></div>`)}
    <div><dt>Last event</dt><dd>${ago(stats.lastEventAt, now)}</dd></div></dl>`;
}

/** Events for which a condition of the plugin cost more than its budget. */
const overBudget = ({ stats }) => (stats?.conditions ?? []).reduce((sum, one) => sum + one.overBudget, 0);

function PluginCard({ plugin, onChanged }) {
  const [busy, setBusy] = useState(false);
  const flip = async (active) => {
    setBusy(true);
    try {
      onChanged((await switchPlugin(plugin.name, active)).data);
    } catch (error) {
      toast(`${words(plugin.name)} could not be switched: ${error.message}`, 'error');
    } finally {
      setBusy(false);
    }
  };
  if (plugin.refused) {
    return html`<article class="card plugin off" data-plugin=${plugin.name}><header><h2>${plugin.name}</h2></header><${Refused} why=${plugin.refused} /></article>`;
  }
  return html`<article class=${plugin.active ? 'card plugin' : 'card plugin off'} data-plugin=${plugin.name}>
    <header><h2><a href=${href(['plugins', plugin.name])} data-row>${words(plugin.name)}</a></h2>
      <${Health} plugin=${plugin} />
      <span class="state">${plugin.active ? 'On' : 'Off'}</span>
      <${Switch} on=${plugin.active} busy=${busy} label=${`${words(plugin.name)} on`} onChange=${flip} /></header>
    <p>${plugin.description}</p>
    ${plugin.fault && html`<div class="problem" role="alert"><strong>Cannot run</strong><span>${plugin.fault}</span></div>`}
    <${Stats} plugin=${plugin} />
    ${overBudget(plugin) > 0 && html`<p class="problem"><strong>${count(overBudget(plugin))} times over budget</strong><span>A condition costs too much; the plugin's page names it.</span></p>`}
  </article>`;
}

function PluginList() {
  const { data, error, loading, reload } = useResource('/api/plugins', {}, { pollMs: 2000 });
  const [changed, setChanged] = useState({});
  useEffect(() => setChanged({}), [data]);
  const plugins = (data?.items ?? data ?? []).map((plugin) => (!plugin.refused && changed[plugin.name]?.revision >= plugin.revision ? { ...plugin, ...changed[plugin.name] } : plugin));
  return html`<${PageHead} title="Plugins" lead="What acts on the events of the tills. A switch takes effect with the next event." />
    <${ProblemBox} problem=${error} retry=${reload} />
    ${!loading && !error && plugins.length === 0 && html`<${Empty} title="No plugins">The server knows none.<//>`}
    <div class="cards">${plugins.map((plugin) => html`<${PluginCard} key=${plugin.refused ? `${plugin.name} refused` : plugin.name} plugin=${plugin} onChanged=${(next) => setChanged((old) => ({ ...old, [next.name]: next }))} />`)}</div>`;
}

export default function Plugins({ path, query }) {
  return path[0] ? html`<${PluginPage} name=${path[0]} tab=${query.tab} />` : html`<${PluginList} />`;
}
