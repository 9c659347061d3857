// One websocket to the live feed: reconnects with backoff, resumes after the last item it saw, counts what was lost.
import { get } from './api.js';

const BACKOFF_MS = [250, 500, 1000, 2000, 5000, 10000];

/**
 * Opens the feed. `filters` = `{type, terminal, plugin, kind}`, words or lists of words; `on` = `{items(list), gap(n), status(text)}` with the texts
 * `connecting`, `live`, `waiting`. Gives a function that closes it.
 */
export function openFeed(filters, on) {
  let socket = null;
  let attempt = 0;
  let timer = 0;
  let closed = false;
  let feedId = null;
  let last = null;

  function address() {
    const params = new URLSearchParams();
    for (const [key, value] of Object.entries(filters)) if (value?.length) params.set(key, String(value));
    if (last !== null) {
      params.set('since', String(last));
      params.set('feedId', feedId);
    }
    return `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/ws/feed?${params}`;
  }

  function receive(message) {
    if (message.type === 'hello') {
      // Numbers of another feed mean nothing here: begin at its newest.
      if (feedId !== null && feedId !== message.feedId) last = null;
      feedId = message.feedId;
    } else if (message.type === 'gap') on.gap(message.dropped ?? 0);
    else if (message.type === 'events' && message.items.length) {
      last = message.items[message.items.length - 1].seq;
      on.items(message.items);
    }
  }

  function connect() {
    on.status('connecting');
    socket = new WebSocket(address());
    let opened = false;
    socket.onopen = () => {
      opened = true;
      attempt = 0;
      on.status('live');
    };
    socket.onmessage = ({ data }) => receive(JSON.parse(data));
    socket.onclose = () => {
      if (closed) return;
      on.status('waiting');
      const delay = BACKOFF_MS[Math.min(attempt++, BACKOFF_MS.length - 1)] * (0.75 + Math.random() / 2);
      timer = setTimeout(connect, delay);
      // A refused handshake does not say why; a plain request does, and brings up the login if that is the reason.
      if (!opened) get('/api/plugins').catch(() => {});
    };
  }

  connect();
  return () => {
    closed = true;
    clearTimeout(timer);
    socket.close();
  };
}
