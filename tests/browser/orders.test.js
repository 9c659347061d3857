// Orders: what is posted shows up, with its lines, its timeline and what a person can do about it.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { api, browser, eventually } from './browser.js';

const { open } = browser();
const LINES = [
  { productId: 'P0015', description: 'Tomatoes on the vine', quantity: 1.703, unitPrice: 349, amount: 594 },
  { productId: 'P0105', description: 'Mineral water crate 12 l', quantity: 2, unitPrice: 599 },
];

/** Posts an order as a till does; `terminalId` is the test's own, so that others do not disturb it. */
const order = (changes = {}) => api('/api/orders', {
  method: 'POST', headers: { 'Idempotency-Key': `"${randomUUID()}"` },
  body: { storeId: 'S001', terminalId: `T-${randomUUID().slice(0, 8)}`, employeeId: 'E0001', currency: 'EUR', items: LINES, discount: 92, total: 1700, ...changes },
});

test('money is written by its currency, whatever its minor unit is', async () => {
  const page = await open('orders');
  const written = await page.evaluate(() => import('/static/lib/format.js').then(({ money }) => [['EUR', 123456], ['JPY', 1234], ['KWD', 12345], ['IQD', 1000], ['HUF', 150]].map(([currency, minor]) => money(minor, currency).replace(/\s/g, ' '))));
  assert.deepEqual(written, ['€1,234.56', '¥1,234', 'KWD 12.345', 'IQD 1.000', 'HUF 1.50']);
  await page.finish();
});

test('no order gets lost between pages while new ones arrive', async () => {
  const terminalId = `T-${randomUUID().slice(0, 8)}`;
  for (let number = 0; number < 60; number++) await order({ terminalId });
  const page = await open(`orders?terminalId=${terminalId}`);
  const shown = () => page.locator('table.orders a[data-row]').evaluateAll((links) => links.map((link) => decodeURIComponent(link.hash.split('/').at(-1))));
  await eventually(async () => (await shown()).length === 50, 'the first page');
  const late = [await order({ terminalId }), await order({ terminalId })];
  await page.getByRole('button', { name: 'Show more' }).click();
  await eventually(async () => (await shown()).length >= 60, 'the second page');
  const { items } = await api(`/api/orders?terminalId=${terminalId}&limit=100`);
  const ids = await shown();
  assert.deepEqual(ids, items.map(({ id }) => id).slice(-ids.length), 'the same orders in the same order, none left out');
  await page.getByRole('button', { name: 'Back to the newest' }).click();
  await eventually(async () => (await shown())[0] === late[1].id, 'the newest first');
  await page.finish();
});

