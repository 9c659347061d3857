// Keyboard shortcuts: single keys and `g x` sequences, never while somebody types.
import { signal } from './html.js';
import { go } from './router.js';
import { toggleTheme } from './theme.js';

/** True while the help dialog is open. */
export const helpOpen = signal(false);
/** Pages by the key that follows `g`. */
export const JUMPS = { p: 'plugins', l: 'live', a: 'alerts', t: 'timesheets', k: 'terminal', r: 'orders', d: 'deadletters', o: 'stores', u: 'audit', s: 'system' };

const pageKeys = new Map();
let pendingJump = 0;

/** Binds keys for as long as a page is shown: `{' ': {label, run}}`. Gives the function that takes them away. */
export function bindKeys(bindings) {
  for (const [key, binding] of Object.entries(bindings)) pageKeys.set(key, binding);
  return () => {
    for (const key of Object.keys(bindings)) pageKeys.delete(key);
  };
}

/** The keys of the page that is shown, for the help dialog. */
export const pageBindings = () => [...pageKeys.entries()].map(([key, { label }]) => ({ key: key === ' ' ? 'space' : key, label }));

const typing = (target) => target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName);

function moveRow(step) {
  const rows = [...document.querySelectorAll('main [data-row]')].filter((row) => row.offsetParent !== null);
  if (!rows.length) return;
  const at = rows.indexOf(document.activeElement);
  const next = at < 0 ? (step > 0 ? 0 : rows.length - 1) : Math.min(rows.length - 1, Math.max(0, at + step));
  rows[next].focus();
}

addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  if (typing(event.target)) {
    if (event.key === 'Escape') event.target.blur();
    return;
  }
  if (document.querySelector('dialog[open]')) return;
  const onButton = event.target.closest('button, a, summary, [role=button]');
  if ((event.key === ' ' || event.key === 'Enter') && onButton) return;
  const page = pageKeys.get(event.key);
  if (pendingJump && Date.now() - pendingJump < 1500 && JUMPS[event.key]) {
    go([JUMPS[event.key]]);
    pendingJump = 0;
  } else if (event.key === 'g') {
    pendingJump = Date.now();
    return;
  } else if (page) page.run();
  else if (event.key === '?') helpOpen.value = true;
  else if (event.key === 't') toggleTheme();
  else if (event.key === 'j') moveRow(1);
  else if (event.key === 'k') moveRow(-1);
  else if (event.key === '/') {
    const first = document.querySelector('main [data-search], main .filters input');
    if (!first) return;
    first.focus();
  } else return;
  pendingJump = 0;
  event.preventDefault();
});
