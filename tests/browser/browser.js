// One browser for a test file, pages that record what must never happen, and a client for the API.
//
// TILLSTREAM_URL: a running `tillstream demo`, http://127.0.0.1:8080 by default. CHROMIUM: path of the browser.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { after, before } from 'node:test';
import { chromium } from 'playwright-core';

export const BASE = (process.env.TILLSTREAM_URL ?? 'http://127.0.0.1:8080').replace(/\/$/, '');
const CANDIDATES = [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];

/** A page of the admin at `hash`, and `close()`, which fails if the console showed an error. */
export function browser() {
  let shared;
  before(async () => {
    const executablePath = CANDIDATES.find((path) => path && existsSync(path));
    assert.ok(executablePath, 'no Chromium found: set CHROMIUM to its path');
    shared = await chromium.launch({ executablePath, headless: true, args: ['--no-sandbox'] });
  });
  after(() => shared?.close());
  return {
    async open(hash, { expected = () => false, ...options } = {}) {
      const context = await shared.newContext({ viewport: { width: 1280, height: 860 }, ...options });
      const page = await context.newPage();
      page.setDefaultTimeout(30000);
      const faults = [];
      page.on('pageerror', (error) => faults.push(error.stack));
      page.on('console', (message) => {
        if (message.type() === 'error' && !expected(message.text())) faults.push(`${message.text()} (${message.location().url})`);
      });
      await page.addInitScript(() => {
        addEventListener('securitypolicyviolation', (event) => console.error(`CSP: ${event.violatedDirective} ${event.blockedURI}`));
      });
      await page.goto(`${BASE}/#/${hash}`);
      await page.locator('h1').first().waitFor();
      page.finish = async () => {
        await context.close();
        assert.deepEqual(faults, [], 'the console must stay free of errors');
      };
      return page;
    },
  };
}

/** A 4xx that a test provokes is logged by Chromium as an error of the console. */
export const status = (code) => (text) => text.includes(`status of ${code}`);

/** Calls the API; throws on an answer that is no success. */
export async function api(path, { method = 'GET', body, headers = {} } = {}) {
  const response = await fetch(BASE + path, {
    method,
    headers: { ...(body === undefined ? {} : { 'Content-Type': method === 'PATCH' ? 'application/merge-patch+json' : 'application/json' }), ...headers },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const text = await response.text();
  assert.ok(response.ok, `${method} ${path}: ${response.status} ${text}`);
  return text ? JSON.parse(text) : null;
}

/** Waits until `probe()` gives something true, and gives that. */
export async function eventually(probe, what, withinMs = 20000) {
  const end = Date.now() + withinMs;
  for (;;) {
    const found = await probe();
    if (found) return found;
    assert.ok(Date.now() < end, `not within ${withinMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** The plugin as it is now; it is put back so when the test ends, however it ends. */
export async function restored(t, name) {
  const plugin = await api(`/api/plugins/${name}`);
  const { active, settings, eligibility } = plugin;
  // A merge patch leaves alone what it does not name, so what a test adds is named as null.
  const blank = { minimumAmount: null, hours: null, when: null };
  t.after(() => api(`/api/plugins/${name}`, { method: 'PATCH', body: { active, settings, eligibility: { ...blank, ...eligibility } } }));
  return plugin;
}
