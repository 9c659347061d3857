// What a page shows from the server: loaded once, polled, or page by page, with loading and error state.
import { useCallback, useEffect, useRef, useState } from './html.js';
import { get, request } from './api.js';

/** `GET path`: `{data, etag, error, loading, reload, setData}`. `pollMs` repeats it; old data stays while new comes. */
export function useResource(path, query = {}, { pollMs = 0 } = {}) {
  const [state, setState] = useState({ data: null, etag: null, error: null, loading: true });
  const [round, setRound] = useState(0);
  const key = path && JSON.stringify([path, query]);
  useEffect(() => {
    if (!path) return undefined;
    const abort = new AbortController();
    let timer = 0;
    const load = async () => {
      try {
        const { data, etag } = await request('GET', path, { query, signal: abort.signal });
        setState({ data, etag, error: null, loading: false, key });
      } catch (error) {
        if (abort.signal.aborted) return;
        setState((old) => ({ ...old, error, loading: false }));
      }
      const again = pollMs || 0;
      if (again && !abort.signal.aborted) timer = setTimeout(load, document.hidden ? again * 5 : again);
    };
    load();
    return () => {
      abort.abort();
      clearTimeout(timer);
    };
  }, [key, round, pollMs]);
  const reload = useCallback(() => setRound((n) => n + 1), []);
  const setData = useCallback((data, etag = null) => setState({ data, etag, error: null, loading: false, key }), [key]);
  return { ...state, reload, setData };
}

const FIRST_PAGE = { head: [], items: [], next: null, paged: false, loading: false, error: null };

/**
 * A list `{items, next}` with `more()` for the next page. `pollMs` refreshes while only the first page is shown; after
 * that the list stands still (`paged`), since what is new would push rows out between the pages. `reload()` starts again.
 */
export function useList(path, query = {}, { pollMs = 0 } = {}) {
  const [rest, setRest] = useState(FIRST_PAGE);
  const first = useResource(path, query, { pollMs: rest.paged ? 0 : pollMs });
  const key = JSON.stringify([path, query]);
  const current = useRef(key);
  current.current = key;
  useEffect(() => setRest(FIRST_PAGE), [key]);
  const newest = first.data?.items ?? (Array.isArray(first.data) ? first.data : []);
  const head = rest.paged ? rest.head : newest;
  const next = rest.paged ? rest.next : (first.data?.next ?? null);
  const more = async () => {
    setRest((old) => ({ ...old, loading: true, error: null }));
    try {
      const page = await get(path, { ...query, cursor: next });
      if (current.current !== key) return;
      setRest((old) => ({ head, items: [...old.items, ...page.items], next: page.next ?? null, paged: true, loading: false, error: null }));
    } catch (error) {
      setRest((old) => ({ ...old, loading: false, error }));
    }
  };
  const reload = () => {
    setRest(FIRST_PAGE);
    first.reload();
  };
  const known = new Set(head.map((item) => item.id));
  const items = rest.paged ? [...head, ...rest.items.filter((item) => item.id === undefined || !known.has(item.id))] : head;
  return { items, paged: rest.paged, hasMore: Boolean(next), more, reload, loading: first.loading || rest.loading, error: first.error ?? rest.error };
}
