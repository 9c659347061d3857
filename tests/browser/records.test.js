// What is kept: alerts, time sheets, dead letters.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { api, browser, eventually } from './browser.js';

const { open } = browser();

/** A subtotal far beyond what the default rule takes for normal, at a till that no other test uses. */
function highValueBasket(id) {
  const data = { basketId: `B-${id}`, employeeId: 'E9001', itemCount: 40, subtotal: 900000, tax: 100000, total: 1000000, currency: 'EUR' };
  const source = '/stores/S001/terminals/T9001';
  return { specversion: '1.0', id, source, type: 'pos.basket.subtotal_finalized', time: new Date().toISOString(), data };
}

test('an alert says why it fired and is closed with a decision', async () => {
  // The demo raises alerts by itself, but when is a matter of its seed: a basket of unusually high value is one at once.
  const id = randomUUID();
  await api('/api/events', { method: 'POST', headers: { 'Content-Type': 'application/cloudevents+json' }, body: highValueBasket(id) });
  const raised = async () => {
    const { items } = await api('/api/alerts?status=new&ruleId=high-value-basket&limit=100');
    return items.find((item) => item.eventIds.some((eventId) => eventId.endsWith(`#${id}`)));
  };
  const alert = await eventually(raised, 'the basket raises an alert', 60000);
  const page = await open('alerts?status=new');
  await page.locator(`a[href="#/alerts/${encodeURIComponent(alert.id)}"]`).first().click();
  await page.locator('h1', { hasText: alert.message }).waitFor();
  await page.locator('.figure').waitFor();
  assert.ok((await page.locator('table tbody tr').count()) > 0, 'the events it rests on are listed');
  await page.getByLabel('What it was').selectOption('false_alarm');
  await page.getByLabel('Note').fill('Checked the receipt');
  await page.getByRole('button', { name: 'Close alert' }).click();
  await eventually(async () => (await api(`/api/alerts/${encodeURIComponent(alert.id)}`)).status === 'closed', 'closed in the API');
  const closed = await api(`/api/alerts/${encodeURIComponent(alert.id)}`);
  assert.equal(closed.disposition, 'false_alarm');
  assert.equal(closed.note, 'Checked the receipt');
  await page.finish();
});

test('time sheets show sessions and totals, and download as CSV', async () => {
  await eventually(async () => (await api('/api/timesheets?limit=1')).items.length > 0, 'the demo has a session', 60000);
  const page = await open('timesheets');
  await page.locator('[data-totals] tbody tr th').first().waitFor();
  const [download] = await Promise.all([page.waitForEvent('download'), page.click('[data-csv]')]);
  assert.match(download.suggestedFilename(), /^timesheets-.*\.csv$/);
  const text = await readFile(await download.path(), 'utf8');
  assert.match(text.split('\n')[0], /employeeId/);
  assert.ok(text.trim().split('\n').length > 1, 'there is at least one session');
  await page.getByLabel('Totals by').selectOption('businessDay');
  await page.locator('[data-totals] th', { hasText: 'Business day' }).waitFor();
  await page.finish();
});

test('dead letters show their reason, headers and bytes, and are discarded after a question', async () => {
  // scripts/test puts corrupt messages on the bus before the demo starts. Letters of other kinds, an order's for instance, may be newer.
  const letters = async () => (await api('/api/deadletters?status=open&limit=1000')).items;
  const fromBus = await eventually(async () => (await letters()).find((one) => one.headers?.some(({ name }) => name === 'content-type')), 'there is an open dead letter of a message');
  const page = await open(`deadletters?reason=${encodeURIComponent(fromBus.reason)}&id=${encodeURIComponent(fromBus.id)}`);
  const detail = page.locator('[data-letter]');
  await detail.locator('[data-headers]', { hasText: 'content-type' }).waitFor();
  await detail.getByRole('button', { name: 'Hex' }).click();
  assert.match(await detail.locator('pre').innerText(), /^000000 /);
  const id = await detail.getAttribute('data-letter');
  await page.locator('tr.selected input[type=checkbox]').check();
  await page.getByRole('button', { name: 'Discard selected' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Cancel' }).click();
  assert.ok((await letters()).some((one) => one.id === id), 'still open after Cancel');
  await page.getByRole('button', { name: 'Discard selected' }).click();
  await page.locator('[data-confirm]').click();
  await eventually(async () => !(await letters()).some((one) => one.id === id), 'discarded in the API');
  await page.finish();
});

test('the recommender tells how often what it recommended was taken up', async () => {
  const { items } = await eventually(async () => {
    const stats = await api('/api/recommendations/stats');
    return stats.items.length && stats;
  }, 'a basket with a recommendation has ended', 90000);
  const page = await open('plugins/purchase-recommender');
  await page.getByRole('link', { name: 'Results' }).click();
  const row = page.locator('[data-recommendations] tbody tr').first();
  await row.waitFor();
  assert.match(await row.innerText(), /P\d+\s+P\d+\s+\d+\s+\d+\s+\d+(\.\d)?%/);
  assert.ok(items[0].made >= items.at(-1).made, 'those made most often come first');
  await page.finish();
});

test('names of any length stay on the page', async () => {
  const long = (name) => `${name}-${'x'.repeat(90)}`;
  const event = (type, data) => ({
    specversion: '1.0', id: randomUUID(), source: `/stores/S001/terminals/${long('T')}`, type, time: new Date().toISOString(),
    data: { employeeId: long('E'), basketId: long('B'), ...data },
  });
  const item = { line: 1, productId: long('P'), description: long('Wine'), category: 'wine', quantity: 1, unitPrice: 99999999, currency: 'EUR' };
  const events = [event('pos.basket.item_added', item), event('pos.customer.identified', { customerId: long('C') })];
  await api('/api/events', { method: 'POST', headers: { 'Content-Type': 'application/cloudevents-batch+json' }, body: events });
  await eventually(async () => (await api(`/api/timesheets?limit=1&employeeId=${long('E')}`)).items.length, 'the session is there');
  for (const [hash, shown] of [[`terminal?terminal=${long('T')}`, long('C')], [`timesheets?employeeId=${long('E')}`, long('T')]]) {
    const page = await open(hash);
    await page.locator('main', { hasText: shown }).waitFor();
    for (const width of [1280, 390]) {
      await page.setViewportSize({ width, height: 800 });
      const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(overflow <= 0, `${hash} is ${overflow} pixels too wide at ${width}`);
    }
    await page.finish();
  }
});
