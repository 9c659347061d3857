// Entry of the admin: which page belongs to which address.
import { html, render, useEffect, useState } from './lib/html.js';
import './lib/keys.js';
import { href, route } from './lib/router.js';
import { Empty, PageHead, ProblemBox } from './ui/parts.js';
import { Shell } from './ui/shell.js';

const LOADERS = {
  plugins: () => import('./pages/plugins.js'),
  live: () => import('./pages/live.js'),
  alerts: () => import('./pages/alerts.js'),
  orders: () => import('./pages/orders.js'),
  timesheets: () => import('./pages/timesheets.js'),
  terminal: () => import('./pages/terminal.js'),
  deadletters: () => import('./pages/deadletters.js'),
  stores: () => import('./pages/stores.js'),
  audit: () => import('./pages/audit.js'),
  system: () => import('./pages/system.js'),
};

function Page() {
  const { path, query } = route.value;
  const name = path[0] ?? 'plugins';
  const [loaded, setLoaded] = useState({});
  const known = Object.hasOwn(LOADERS, name);
  useEffect(() => {
    if (!known) return;
    LOADERS[name]().then((module) => setLoaded({ name, Page: module.default }), (problem) => setLoaded({ name, problem }));
  }, [name]);
  if (!known) return html`<${PageHead} title="There is no such page" /><${Empty} title=${`Nothing is called “${path.join('/')}”`}><a href=${href(['plugins'])}>Go to the plugins</a><//>`;
  if (loaded.name !== name) return html`<p class="muted">Loading…</p>`;
  if (loaded.problem) return html`<${ProblemBox} problem=${loaded.problem} retry=${() => location.reload()} />`;
  return html`<${loaded.Page} key=${path.join('/')} path=${path.slice(1)} query=${query} />`;
}

render(html`<${Shell}><${Page} /><//>`, document.getElementById('app'));
