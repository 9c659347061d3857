// What moves: the live feed, the terminal, the system page.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { api, browser, eventually } from './browser.js';

const { open } = browser();
const numberIn = async (page, attribute) => Number(await page.locator(`[${attribute}]`).first().getAttribute(attribute));

test('events appear within seconds and go on appearing', async () => {
  const page = await open('live');
  await page.locator('.line').first().waitFor();
  const first = await numberIn(page, 'data-received');
  await eventually(async () => (await numberIn(page, 'data-received')) > first + 5, 'more events are received');
  await page.finish();
});

test('pause stops the list, keeps what comes, and shows it afterwards', async () => {
  const page = await open('live');
  await page.locator('.line').first().waitFor();
  await page.keyboard.press('Space');
  await page.locator('[data-pause][aria-pressed=true]').waitFor();
  const newest = () => page.locator('.line').first().getAttribute('data-seq');
  const held = await newest();
  const waiting = await eventually(async () => { const n = await numberIn(page, 'data-waiting'); return n > 5 && n; }, 'events are kept while paused');
  assert.equal(await newest(), held, 'the list stands still');
  await page.click('[data-pause]');
  await eventually(async () => Number(await newest()) > Number(held), 'the list goes on');
  assert.ok(waiting > 5);
  await page.finish();
});

test('a filter on the type works on the server', async () => {
  const page = await open('live?type=pos.basket.*');
  await page.locator('.line').first().waitFor();
  const titles = await page.locator('.line span[title]').evaluateAll((all) => all.map((one) => one.title));
  assert.ok(titles.length > 0 && titles.every((title) => title.startsWith('pos.basket.')), titles.join());
  await page.finish();
});

test('an event is shown whole, with what it caused', async () => {
  const page = await open('live');
  const recommended = page.locator('.line', { hasText: 'Recommendation made' }).first();
  await eventually(async () => {
    await page.click('[data-pause]');
    if (await recommended.count()) return true;
    await page.click('[data-pause]');
    await page.waitForTimeout(1000);
    return false;
  }, 'something is recommended', 60000);
  await recommended.click();
  const detail = page.locator('[data-event-detail]');
  await detail.locator('h3', { hasText: 'Caused by' }).waitFor();
  await detail.locator('button', { hasText: 'Item added' }).click();
  await detail.locator('h2', { hasText: 'Item added' }).waitFor();
  await detail.locator('.event-links button').first().waitFor();
  assert.match(await detail.locator('pre').innerText(), /"specversion": "1.0"/);
  await page.finish();
});

test('thousands of events a second do not freeze the page', async () => {
  const page = await open('live');
  await page.locator('.line').first().waitFor();
  const longest = await page.evaluate(async () => {
    const { LiveBuffer } = await import('/static/lib/live-buffer.js');
    const buffer = new LiveBuffer(() => {});
    const start = performance.now();
    for (let round = 0; round < 200; round++) buffer.push(Array.from({ length: 100 }, (_, n) => ({ seq: round * 100 + n, kind: 'event', event: {} })));
    return { ms: performance.now() - start, kept: buffer.kept.length, shown: buffer.shown(300).length };
  });
  assert.ok(longest.ms < 500, `20 000 events took ${longest.ms} ms`);
  assert.ok(longest.kept <= 4500 && longest.shown <= 300, 'the list is capped');
  await page.finish();
});

test('the terminal page shows the basket of a busy till', async () => {
  const added = await eventually(async () => (await api('/api/events?type=pos.basket.item_added&limit=1')).items[0], 'an item was added somewhere', 60000);
  const terminal = /terminals\/(.+)$/.exec((added.event ?? added).source)[1];
  const page = await open(`terminal?terminal=${terminal}`);
  await page.locator('[data-basket] tbody tr').first().waitFor({ timeout: 60000 });
  await page.locator('.basket-total b').waitFor();
  await page.finish();
});

test('the system page shows processes, partitions, delivery, actors and a plot', async () => {
  const page = await open('system');
  await page.locator('table', { hasText: '(this one)' }).first().waitFor();
  await page.locator('.tile', { hasText: 'Records in the outbox' }).waitFor();
  await page.locator('table', { hasText: 'pos.events' }).first().waitFor();
  await page.locator('.plot canvas').waitFor();
  assert.ok((await page.locator('table').last().locator('tbody tr').count()) > 0, 'actors are listed');
  await page.finish();
});
