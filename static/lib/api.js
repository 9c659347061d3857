// HTTP to our own server: JSON in and out, problem details as errors, a token prompt on 401.
import { signal } from './html.js';

/** True while the server wants a token; the login dialog shows then. */
export const loginNeeded = signal(false);
/** Who is logged in: `{loginRequired, name, role}`; nothing while that is not known. */
export const session = signal(null);
let waiting = [];

/** What went wrong, as RFC 9457 says it. `status` 0: the server was not reached. */
export class Problem extends Error {
  constructor(status, body = {}) {
    super(body.detail ?? body.title ?? `The server answered ${status}.`);
    this.status = status;
    this.title = body.title ?? (status === 0 ? 'The server does not answer' : `Error ${status}`);
    this.detail = body.detail ?? '';
    this.errors = Array.isArray(body.errors) ? body.errors : [];
    this.body = body;
  }
}

/** `/api/x?a=1` without the parameters that are empty; a list becomes repeated parameters. */
export function url(path, query = {}) {
  const params = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== undefined && one !== null && one !== '') params.append(key, String(one));
    }
  }
  const text = params.toString();
  return text ? `${path}?${text}` : path;
}

async function send(method, path, { query, body, headers = {}, signal: abort, accept = 'application/json' } = {}) {
  // The last header tells the server that this page sends the request: pages of other origins cannot set it.
  const init = { method, headers: { Accept: accept, ...headers, 'X-Tillstream-Admin': '1' }, signal: abort, credentials: 'same-origin', cache: 'no-store' };
  if (body !== undefined) {
    init.body = JSON.stringify(body);
    init.headers['Content-Type'] ??= 'application/json';
  }
  let response;
  try {
    response = await fetch(url(path, query), init);
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new Problem(0, { detail: 'Tillstream may be restarting. This page tries again by itself.' });
  }
  return response;
}

async function problemOf(response) {
  const body = await response.json().catch(() => ({}));
  return new Problem(response.status, body && typeof body === 'object' ? body : {});
}

/** Sends a request and gives `{data, etag, response}`; throws a [`Problem`]. A 401 waits for the login and tries again. */
export async function request(method, path, options = {}) {
  let response = await send(method, path, options);
  while (response.status === 401) {
    loginNeeded.value = true;
    await new Promise((resolve) => waiting.push(resolve));
    response = await send(method, path, options);
  }
  if (!response.ok) throw await problemOf(response);
  const etag = response.headers.get('etag');
  if ((options.accept ?? 'application/json') !== 'application/json') return { data: await response.blob(), etag, response };
  const text = await response.text();
  return { data: text ? JSON.parse(text) : null, etag, response };
}

/** GET that answers the parsed body. */
export const get = async (path, query, options) => (await request('GET', path, { query, ...options })).data;

/** Exchanges a token for the session cookie and lets waiting requests go on. */
export async function login(token) {
  const response = await send('POST', '/api/session', { body: { token } });
  if (!response.ok) throw await problemOf(response);
  loginNeeded.value = false;
  session.value = await response.json().catch(() => null);
  const resume = waiting;
  waiting = [];
  for (const go of resume) go();
}

/** Asks who is logged in. */
export async function loadSession() {
  const response = await send('GET', '/api/session').catch(() => null);
  if (response?.ok) session.value = await response.json();
}

/** Ends the session. */
export async function logout() {
  const response = await send('DELETE', '/api/session');
  if (!response.ok) throw await problemOf(response);
  location.reload();
}
