// A plugin in another language in the admin, from its first sign of life to the replay of what it could not handle, as a manager sees
// it. `test_admin.py` starts Tillstream on Kafka and gives COUNTER, the command that runs the plugin.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { after, test } from 'node:test';
import { api, browser, eventually } from '../browser/browser.js';

const { open } = browser();
const [command, ...words] = process.env.COUNTER.split(' ');
let member;
after(() => member?.kill('SIGKILL'));

const counter = () => api('/api/plugins/counter');
const field = (page, path) => page.locator(`[id="${path}"]`);
const save = async (page) => {
  await page.click('[data-save]');
  await page.locator('.save-bar', { hasText: 'Everything is saved' }).waitFor();
};
const shot = async (page, name) => process.env.SHOTS && page.screenshot({ path: `${process.env.SHOTS}/${name}.png`, fullPage: true });
const item = (terminal, number, productId = 'P1') => ({
  specversion: '1.0', id: `${terminal}-${number}`, source: `/stores/S001/terminals/${terminal}`, type: 'pos.basket.item_added', time: new Date().toISOString(),
  data: { basketId: 'B1', employeeId: 'E1', line: number, productId, category: 'food', quantity: 1, unitPrice: 199, currency: 'EUR' },
});
const post = (events) => api('/api/events', { method: 'POST', headers: { 'Content-Type': 'application/cloudevents-batch+json' }, body: events });
/** In the order of its partition; the API answers the newest first. */
const published = async () => (await api('/api/events?limit=1000')).items.reverse().filter(({ source }) => source === '/plugins/counter');

test('a plugin that nobody runs, and manifests that were refused, are shown as that', async () => {
  const page = await open('plugins');
  await page.locator('[data-plugin=silent]', { hasText: 'Not running' }).waitFor();
  await page.locator('[data-plugin=broken]', { hasText: 'Its manifest was refused' }).locator('text=scope').waitFor();
  const refused = page.locator('[data-plugin=fraud-detection]', { hasText: 'Its manifest was refused' });
  await refused.locator('text=name').first().waitFor();
  await page.locator('[data-plugin=fraud-detection] [role=switch][aria-checked=true]').waitFor();
  await shot(page, 'refused');
  await page.finish();
});

test('a plugin appears, is switched, set, restricted, fails, and what failed is replayed', async () => {
  member = spawn(command, words, { stdio: 'ignore' });
  const page = await open('plugins');
  const card = page.locator('[data-plugin=counter]');
  await card.locator('text=1 ready').waitFor();
  await card.locator('[role=switch][aria-checked=false]').click();
  await card.locator('text=1 running').waitFor();
  await shot(page, 'list');

  await card.locator('a').click();
  await page.getByLabel('Delay', { exact: true }).waitFor();
  await field(page, 'settings.every').fill('0');
  await page.click('[data-save]');
  await page.locator('[data-error-for="settings.every"]:not(:empty)').waitFor();
  await field(page, 'settings.every').fill('1');
  await field(page, 'settings.label').fill('by form');
  await page.getByLabel('Reason (optional)').fill('A first try');
  await save(page);
  await shot(page, 'form');
  await page.getByRole('link', { name: 'Which events' }).click();
  await field(page, 'eligibility.terminals').fill('T0001,');
  await page.keyboard.press('Enter');
  await save(page);
  const { active, settings, eligibility } = await counter();
  assert.deepEqual([active, settings.label, eligibility.terminals], [true, 'by form', ['T0001']]);

  await post([item('T0001', 1), item('T0002', 1), item('T0001', 2, 'FAIL'), item('T0001', 3)]);
  await page.getByRole('link', { name: 'Members' }).click();
  const row = page.locator('tr[data-member]');
  await row.locator('text=told to fail').waitFor();
  await eventually(async () => (await counter()).members[0].lag === 0, 'all is committed');
  await row.locator('td').nth(4).filter({ hasText: /^0$/ }).waitFor();
  const cells = await row.locator('td').allInnerTexts();
  assert.deepEqual([cells[2], cells[3], cells[4], cells[5], cells[6]], ['1.0.0', 'revision 4', '0', '3', '1']);
  await page.locator('#whileOff').selectOption('skip');
  await eventually(async () => (await counter()).whileOff === 'skip', 'the choice for its input is kept');
  await shot(page, 'members');

  await page.goto(`${page.url().split('#')[0]}#/deadletters?plugin=counter`);
  await page.locator('button[data-row]').first().click();
  const letter = page.locator('[data-letter]');
  await letter.locator('text=told to fail').first().waitFor();
  await api('/api/plugins/counter', { method: 'PATCH', body: { settings: { label: 'mended' } } });
  await letter.getByRole('button', { name: 'Replay' }).click();
  await page.locator('text=No dead letters').waitFor();
  assert.deepEqual((await api('/api/deadletters?plugin=counter')).items.map(({ status }) => status), ['replayed']);
  await eventually(async () => (await counter()).members[0].processed === 4, 'it has handled the replay');

  await page.goto(`${page.url().split('#')[0]}#/plugins/counter?tab=history`);
  await page.locator('.history li', { hasText: 'A first try' }).first().waitFor();
  await shot(page, 'history');

  // Slow: 150 events of a quarter of a second each.
  await api('/api/plugins/counter', { method: 'PATCH', body: { settings: { delayMs: 250, every: 1000 } } });
  await post(Array.from({ length: 150 }, (_, index) => item('T0001', 100 + index)));
  await page.locator('.page-head .badge', { hasText: /\d+ behind/ }).waitFor();
  await shot(page, 'slow');
  await page.getByRole('switch').first().click();
  await page.locator('.page-head .badge', { hasText: /\d+ waiting/ }).waitFor();
  assert.deepEqual((await published()).map(({ data }) => [data.count, data.label]), [[1, 'by form'], [2, 'by form'], [3, 'mended']]);
  await page.finish();
});
