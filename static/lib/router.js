// Hash routing: `#/plugins/fraud-detection?tab=history` becomes `{path: ['plugins', …], query: {tab: …}}`.
import { signal } from './html.js';

/** An address that somebody typed may hold anything. */
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function parse() {
  const [path, query = ''] = location.hash.replace(/^#\/?/, '').split('?');
  return {
    path: path.split('/').filter(Boolean).map(decoded),
    query: Object.fromEntries(new URLSearchParams(query)),
  };
}

/** Where the page is. */
export const route = signal(parse());
/** True from the moment another page is asked for until its title took the focus. */
export const arrival = { pending: false };
let guard = null;
let shown = location.hash;

/** Asks `question` before the page is left while `isDirty()` holds; `null` takes the guard away. */
export function setGuard(next) {
  guard = next;
}

addEventListener('hashchange', () => {
  const samePage = location.hash.split('?')[0] === shown.split('?')[0];
  if (location.hash === shown) return;
  if (guard && !samePage && guard.isDirty() && !confirm(guard.question)) {
    history.replaceState(null, '', shown || '#/');
    return;
  }
  shown = location.hash;
  arrival.pending = !samePage;
  route.value = parse();
});
addEventListener('beforeunload', (event) => {
  if (guard?.isDirty()) event.preventDefault();
});

/** The link to a page. */
export function href(path, query = {}) {
  const kept = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== '');
  const text = new URLSearchParams(kept).toString();
  return `#/${path.map(encodeURIComponent).join('/')}${text ? `?${text}` : ''}`;
}

/** Goes to a page. */
export function go(path, query) {
  location.hash = href(path, query);
}

/** Changes some of the query, so that filters can be bookmarked, without a new entry in the history. */
export function setQuery(changes) {
  const next = href(route.value.path, { ...route.value.query, ...changes });
  history.replaceState(null, '', next);
  shown = location.hash;
  route.value = parse();
}
