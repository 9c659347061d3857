// Switches and settings by form: what a manager changes is what the API then says, also after a reload.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { api, browser, eventually, restored, status } from './browser.js';

const { open } = browser();
const field = (page, path) => page.locator(`[id="${path}"]`);
const save = async (page) => {
  await page.click('[data-save]');
  await page.locator('.save-bar', { hasText: 'Everything is saved' }).waitFor();
};
const pluginOf = (name) => api(`/api/plugins/${name}`);

test('a plugin is switched off and on again', async (t) => {
  await restored(t, 'purchase-recommender');
  await api('/api/plugins/purchase-recommender', { method: 'PATCH', body: { active: true } });
  const page = await open('plugins');
  const toggle = page.locator('[data-plugin=purchase-recommender] [role=switch][aria-checked=true]');
  await toggle.click();
  await page.locator('[data-plugin=purchase-recommender] [role=switch][aria-checked=false]').waitFor();
  await eventually(async () => !(await pluginOf('purchase-recommender')).active, 'inactive in the API');
  const list = await api('/api/plugins');
  assert.equal(list.items.find((plugin) => plugin.name === 'purchase-recommender').active, false);
  await page.locator('[data-plugin=purchase-recommender] [role=switch]').click();
  await eventually(async () => (await pluginOf('purchase-recommender')).active, 'active in the API');
  await page.finish();
});

test('a number that is out of range is refused beside its field, and the old one stays in force', async (t) => {
  const before = await restored(t, 'employee-time-tracker');
  const page = await open('plugins/employee-time-tracker');
  const idle = field(page, 'settings.idleSeconds');
  await idle.fill('5');
  await page.click('[data-save]');
  await page.locator('[data-error-for="settings.idleSeconds"]:not(:empty)').waitFor();
  assert.equal(await idle.getAttribute('aria-invalid'), 'true');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'settings.idleSeconds', 'whoever saves is led to what is wrong');
  await page.locator('.save-bar', { hasText: 'one field is wrong' }).waitFor();
  await idle.fill('soon');
  await page.click('[data-save]');
  await page.locator('[data-error-for="settings.idleSeconds"]', { hasText: 'number' }).waitFor();
  assert.deepEqual((await pluginOf('employee-time-tracker')).settings, before.settings);
  await page.finish();
});

test('a wrong field that is folded away and out of sight is opened and shown', async () => {
  const page = await open('plugins/fraud-detection');
  await page.locator('[id="settings.rules[0]"] summary').first().click();
  const limit = field(page, 'settings.rules[0].limit');
  await limit.fill('much');
  await page.locator('[id="settings.rules[0]"] summary').first().click();
  await page.evaluate(() => scrollTo(0, document.body.scrollHeight));
  await page.click('[data-save]');
  await page.locator('[data-error-for="settings.rules[0].limit"]:not(:empty)').waitFor();
  await eventually(() => page.evaluate(() => {
    const { top, bottom } = document.activeElement.getBoundingClientRect();
    return document.activeElement.id === 'settings.rules[0].limit' && top > 0 && bottom < innerHeight;
  }), 'the field has the focus and is in sight');
  await page.finish();
});

test('what only the server can tell is shown beside the field too', async (t) => {
  await restored(t, 'purchase-recommender');
  const page = await open('plugins/purchase-recommender?tab=eligibility', { expected: status(422) });
  await field(page, 'eligibility.when').fill('event.data.amount >> ??');
  await page.click('[data-save]');
  await page.locator('[data-error-for="eligibility.when"]:not(:empty)').waitFor();
  await page.locator('[data-error-summary] button[title="eligibility.when"]').click();
  assert.equal(await page.evaluate(() => document.activeElement.id), 'eligibility.when', 'the summary leads to the field');
  await page.finish();
});

test('the limit of a fraud rule is changed by form and survives a reload', async (t) => {
  const before = await restored(t, 'fraud-detection');
  const index = before.settings.rules.findIndex((rule) => rule.aggregate.kind === 'count');
  const limit = before.settings.rules[index].limit + 3;
  const page = await open('plugins/fraud-detection');
  const item = field(page, `settings.rules[${index}]`);
  await item.locator('summary').first().click();
  await field(page, `settings.rules[${index}].limit`).fill(String(limit));
  await page.getByLabel('Reason (optional)').fill('Too many false alarms');
  await save(page);
  assert.equal((await pluginOf('fraud-detection')).settings.rules[index].limit, limit);
  await page.reload();
  await item.locator('summary').first().click();
  assert.equal(await field(page, `settings.rules[${index}].limit`).inputValue(), String(limit));
  await page.getByRole('link', { name: 'History' }).click();
  await page.locator('.history li').first().locator('text=Too many false alarms').waitFor();
  await page.finish();
});

test('a law reads as a sentence, its help has no marks of a programmer, and categories that are in use are proposed', async () => {
  const page = await open('plugins/age-verification');
  const first = field(page, 'settings.policies[0]');
  await first.locator('summary', { hasText: /^beer · DE · from 16 · document below 25 · since 2020-01-01$/ }).click();
  assert.ok(!(await page.locator('main').innerText()).includes('`'), 'no backticks');
  assert.equal(await page.locator('main .field-help code', { hasText: 'DE' }).count() > 0, true);
  const proposed = page.locator('[id="settings.policies[0].category--list"] option');
  await eventually(async () => (await proposed.count()) > 3, 'categories are proposed');
  const values = await proposed.evaluateAll((options) => options.map((one) => one.value));
  assert.ok(values.includes('wine') && values.includes('meat'), `${values}`);
  await page.finish();
});

test('a pairing is added, moved and removed by form', async (t) => {
  const before = await restored(t, 'purchase-recommender');
  const at = before.settings.pairings.length;
  const page = await open('plugins/purchase-recommender');
  await page.click('[data-add="settings.pairings"]');
  const type = async (name, text) => {
    await field(page, `settings.pairings[${at}].${name}`).fill(text);
    await page.keyboard.press('Enter');
  };
  await type('products', 'P-TEST-1');
  await type('recommend', 'P-TEST-2');
  await field(page, `settings.pairings[${at}].reason`).fill('Goes well together');
  await save(page);
  const saved = (await pluginOf('purchase-recommender')).settings.pairings;
  assert.equal(saved.length, at + 1);
  assert.deepEqual(saved[at].products, ['P-TEST-1']);
  assert.equal(saved[at].reason, 'Goes well together');
  await page.reload();
  await field(page, `settings.pairings[${at}]`).locator('summary', { hasText: 'P-TEST-1' }).waitFor();
  if (at > 0) {
    await page.getByRole('button', { name: `Move pairing ${at + 1} up` }).click();
    await save(page);
    assert.deepEqual((await pluginOf('purchase-recommender')).settings.pairings[at - 1].products, ['P-TEST-1']);
  }
  await page.getByRole('button', { name: `Remove pairing ${Math.max(1, at)}`, exact: true }).click();
  await save(page);
  assert.deepEqual((await pluginOf('purchase-recommender')).settings.pairings, before.settings.pairings);
  await page.finish();
});

test('a list of stores and hours restrict a plugin, without JSON', async (t) => {
  await restored(t, 'customer-lookup');
  const page = await open('plugins/customer-lookup?tab=eligibility');
  await field(page, 'eligibility.stores').fill('S001, S002,');
  await page.keyboard.press('Enter');
  await page.getByRole('button', { name: 'Set hours' }).click();
  await page.locator('[data-day=mon-from]').fill('09:30');
  await page.locator('[data-day=mon-to]').fill('18:00');
  await page.getByRole('switch', { name: 'Saturday open' }).click();
  await field(page, 'eligibility.minimumAmount').fill('12.50');
  await save(page);
  const { eligibility } = await pluginOf('customer-lookup');
  assert.deepEqual(eligibility.stores.slice(-2), ['S001', 'S002']);
  assert.equal(eligibility.hours.mon, '09:30-18:00');
  assert.ok(!eligibility.hours.sat);
  assert.equal(eligibility.minimumAmount, 1250);
  await page.reload();
  assert.equal(await page.locator('[data-day=mon-from]').inputValue(), '09:30');
  await page.finish();
});

test('two people at once: the second sees both versions and loses nothing', async (t) => {
  await restored(t, 'employee-time-tracker');
  const page = await open('plugins/employee-time-tracker', { expected: status(412) });
  await field(page, 'settings.idleSeconds').fill('1234');
  await api('/api/plugins/employee-time-tracker', { method: 'PATCH', body: { settings: { maximumShiftSeconds: 40000 } } });
  await page.click('[data-save]');
  const conflict = page.locator('.conflict');
  await conflict.waitFor();
  await conflict.locator('tr', { hasText: 'Maximum shift seconds' }).locator('text=40000').waitFor();
  await conflict.locator('tr', { hasText: 'Idle seconds' }).locator('text=1234').waitFor();
  await conflict.getByRole('button', { name: 'Put mine on top' }).click();
  await save(page);
  const { settings } = await pluginOf('employee-time-tracker');
  assert.equal(settings.idleSeconds, 1234);
  assert.equal(settings.maximumShiftSeconds, 40000);
  await page.finish();
});

test('opening hours of a store are edited by form', async (t) => {
  const before = await api('/api/stores');
  t.after(() => api('/api/stores', { method: 'PUT', body: { stores: before.stores } }));
  const id = Object.keys(before.stores)[0];
  const page = await open('stores');
  const store = page.locator(`[data-store="${id}"]`);
  await store.waitFor();
  if (await store.getByRole('button', { name: 'Set hours' }).count()) await store.getByRole('button', { name: 'Set hours' }).click();
  const sunday = store.getByRole('switch', { name: 'Sunday open' });
  if ((await sunday.getAttribute('aria-checked')) === 'false') await sunday.click();
  await store.locator('[data-day=sun-from]').fill('10:15');
  await store.locator('[data-day=sun-to]').fill('16:45');
  await save(page);
  assert.equal((await api('/api/stores')).stores[id].hours.sun, '10:15-16:45');
  await page.reload();
  assert.equal(await store.locator('[data-day=sun-from]').inputValue(), '10:15');
  await page.finish();
});

test('a change leaves a line in the audit', async (t) => {
  await restored(t, 'customer-lookup');
  await api('/api/plugins/customer-lookup', { method: 'PATCH', body: { settings: { attempts: 2 }, reason: 'For the audit test' } });
  const page = await open('audit');
  await page.locator('.history li', { hasText: 'For the audit test' }).first().waitFor();
  await page.finish();
});

test('a condition that cannot be decided is named on the page of its plugin', async (t) => {
  await restored(t, 'purchase-recommender');
  await api('/api/plugins/purchase-recommender', { method: 'PATCH', body: { active: true, eligibility: { when: 'event.data.nothing == 1' } } });
  await eventually(async () => (await pluginOf('purchase-recommender')).stats.conditions?.length > 0, 'an event failed it', 60000);
  const page = await open('plugins/purchase-recommender');
  await page.locator('[data-condition="eligibility.when"]', { hasText: 'there is no key nothing' }).waitFor();
  await page.finish();
});
