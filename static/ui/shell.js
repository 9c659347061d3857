// The frame of every page: navigation, theme switch, help, login, toasts.
import { html, useEffect, useRef, useState } from '../lib/html.js';
import { loadSession, login, loginNeeded, logout, session } from '../lib/api.js';
import { count } from '../lib/format.js';
import { helpOpen, JUMPS, pageBindings } from '../lib/keys.js';
import { useResource } from '../lib/resource.js';
import { href, route } from '../lib/router.js';
import { theme, toggleTheme } from '../lib/theme.js';
import { dismiss, toast, toasts } from '../lib/toast.js';
import { Dialog, Questions } from './dialog.js';
import { Icon } from './icons.js';
import { ProblemBox } from './parts.js';

/** The pages in the order of the navigation. */
export const PAGES = [
  { id: 'plugins', label: 'Plugins' },
  { id: 'live', label: 'Live' },
  { id: 'alerts', label: 'Alerts' },
  { id: 'orders', label: 'Orders' },
  { id: 'timesheets', label: 'Time sheets' },
  { id: 'terminal', label: 'Terminal' },
  { id: 'deadletters', label: 'Dead letters' },
  { id: 'stores', label: 'Stores' },
  { id: 'audit', label: 'Audit' },
  { id: 'system', label: 'System' },
];

function Help() {
  if (!helpOpen.value) return null;
  const general = [['?', 'This help'], ['/', 'Go to the first filter'], ['j  k', 'Next and previous row'], ['Enter', 'Open the row'], ['t', 'Dark or light'], ['Esc', 'Close, or leave a field']];
  const row = ([keys, label]) => html`<div key=${keys}><dt>${keys.split(/\s+/).map((key) => html`<kbd>${key}</kbd> `)}</dt><dd>${label}</dd></div>`;
  const here = pageBindings();
  return html`<${Dialog} title="Keyboard shortcuts" wide onClose=${() => { helpOpen.value = false; }}>
    <div class="shortcuts">
      <section><h3>Everywhere</h3><dl>${general.map(row)}</dl>
        ${here.length > 0 && html`<h3>On this page</h3><dl>${here.map(({ key, label }) => row([key, label]))}</dl>`}</section>
      <section><h3>Go to</h3><dl>${Object.entries(JUMPS).map(([key, page]) => row([`g ${key}`, PAGES.find((p) => p.id === page).label]))}</dl></section>
    </div>
  <//>`;
}

function Login() {
  const [token, setToken] = useState('');
  const [problem, setProblem] = useState(null);
  if (!loginNeeded.value) return null;
  const submit = async (event) => {
    event.preventDefault();
    try {
      await login(token);
      setToken('');
      setProblem(null);
    } catch (error) {
      setProblem(error);
    }
  };
  return html`<${Dialog} title="Log in" dismissable=${false}>
    <form onSubmit=${submit} class="stack">
      <p>This server asks for a token. Whoever runs it can give you one.</p>
      <label class="stack-tight"><span>Token</span>
        <input type="password" autocomplete="current-password" value=${token} onInput=${(e) => setToken(e.currentTarget.value)} /></label>
      <${ProblemBox} problem=${problem} />
      <div class="actions end"><button class="primary" disabled=${!token}>Log in</button></div>
    </form>
  <//>`;
}

const Toasts = () => html`<div class="toasts" role="status" aria-live="polite">
  ${toasts.value.map((one) => html`<div key=${one.id} class=${`toast ${one.kind}`}><span>${one.text}</span>
    <button type="button" class="icon" aria-label="Dismiss" onClick=${() => dismiss(one.id)}>✕</button></div>`)}
</div>`;

function Nav({ open, close }) {
  const here = route.value.path[0] ?? 'plugins';
  const { data: alerts } = useResource('/api/alerts', { status: 'new', limit: 100 }, { pollMs: 10000 });
  const { data: dead } = useResource('/api/deadletters', { status: 'open', limit: 100 }, { pollMs: 10000 });
  const { data: orders } = useResource('/api/orders/stats', {}, { pollMs: 10000 });
  const many = (list) => (list?.items?.length ? `${list.items.length}${list.next ? '+' : ''}` : null);
  const failed = orders?.counts?.FAILED;
  const badges = {
    alerts: { text: many(alerts), of: 'new', bad: true },
    orders: { text: failed ? count(failed) : null, of: 'failed', bad: true },
    deadletters: { text: many(dead), of: 'open' },
  };
  return html`<nav class=${open ? 'side open' : 'side'} id="navigation" aria-label="Pages">
    ${PAGES.map(({ id, label }) => html`<a key=${id} href=${href([id])} aria-current=${id === here ? 'page' : undefined} onClick=${close}>
      <${Icon} name=${id} /><span>${label}</span>
      ${badges[id]?.text && html`<b class=${badges[id].bad ? 'pill bad' : 'pill'}>${badges[id].text}<span class="sr"> ${badges[id].of}</span></b>`}
    </a>`)}
  </nav>`;
}

/** The frame around a page. */
export function Shell({ children }) {
  const [open, setOpen] = useState(false);
  const main = useRef(null);
  const at = route.value.path.join('/');
  useEffect(() => {
    const name = PAGES.find((page) => page.id === (route.value.path[0] ?? 'plugins'))?.label;
    document.title = name ? `${name} · Tillstream` : 'Tillstream';
    scrollTo(0, 0);
  }, [at]);
  useEffect(() => { loadSession(); }, []);
  const who = session.value;
  const other = theme.value === 'dark' ? 'light' : 'dark';
  return html`<div class="shell">
    <a class="skip" href="#main" onClick=${(e) => { e.preventDefault(); main.current.focus(); }}>Skip to content</a>
    <header class="top">
      <button type="button" class="icon menu" aria-label="Pages" aria-expanded=${open ? 'true' : 'false'} aria-controls="navigation" onClick=${() => setOpen(!open)}><${Icon} name="menu" /></button>
      <a class="brand" href="#/plugins"><img src="/static/icon.svg" alt="" width="24" height="24" />Tillstream</a>
      <span class="grow"></span>
      <button type="button" class="icon" aria-label=${`Use ${other} colours`} title=${`Use ${other} colours (t)`} data-theme-switch onClick=${toggleTheme}><${Icon} name="theme" /></button>
      <button type="button" class="icon" aria-label="Keyboard shortcuts" title="Keyboard shortcuts (?)" onClick=${() => { helpOpen.value = true; }}>?</button>
      ${who?.loginRequired && who.name && html`<span class="state" title=${`Logged in as ${who.role}`}>${who.name}</span><button type="button" class="small" onClick=${() => logout().catch((problem) => toast(`You are still logged in: ${problem.message}`, 'error'))}>Log out</button>`}
    </header>
    <${Nav} open=${open} close=${() => setOpen(false)} />
    <main id="main" tabindex="-1" ref=${main}>${children}</main>
    <${Help} /><${Questions} /><${Login} /><${Toasts} />
  </div>`;
}
