// The page's pure parts, run where they belong: in the browser.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { browser } from './browser.js';

const { open } = browser();

/** Runs `run(module, argument)` in the page. */
async function inPage(path, run, argument) {
  const page = await open('plugins');
  const found = await page.evaluate(`import(${JSON.stringify(`/static/${path}`)}).then((module) => (${run})(module, ${JSON.stringify(argument ?? null)}))`);
  await page.finish();
  return found;
}

test('a merge patch says only what changed, and applied it gives the new value', async () => {
  const found = await inPage('forms/patch.js', ({ mergePatch, applyPatch, same }) => {
    const base = { idle: 5, hours: { mon: '08:00-20:00', tue: '08:00-20:00' }, list: [1, 2], gone: 'x' };
    const next = { idle: 5, hours: { mon: '09:00-20:00', tue: null }, list: [2], gone: null };
    const patch = mergePatch(base, next);
    return { patch, fits: same(applyPatch(base, patch), next), nothing: mergePatch({ a: null }, {}) === undefined };
  });
  assert.deepEqual(found.patch, { hours: { mon: '09:00-20:00', tue: null }, list: [2], gone: null });
  assert.ok(found.fits && found.nothing);
});

test('differences name the item of a list by its id', async () => {
  const found = await inPage('forms/patch.js', ({ changes }) => changes(
    { rules: [{ id: 'a', limit: 1 }, { id: 'b', limit: 2 }] },
    { rules: [{ id: 'b', limit: 3 }, { id: 'a', limit: 1 }] },
  ));
  assert.deepEqual(found, [{ path: 'rules[b].limit', before: 2, after: 3 }]);
});

test('the fields of a form follow the schema', async () => {
  const found = await inPage('forms/schema.js', ({ resolve, kindOf, blank, check }) => {
    const root = { $defs: { Rule: { type: 'object', required: ['id', 'limit'], properties: { id: { type: 'string' }, limit: { type: 'integer', minimum: 1 } } } } };
    const kind = (schema, name) => kindOf(resolve(schema, root).schema, root, name);
    return {
      kinds: [
        kind({ type: ['integer', 'null'] }, 'idleSeconds'), kind({ type: ['integer', 'null'] }, 'minimumAmount'), kind({ anyOf: [{ $ref: '#/$defs/Rule' }, { type: 'null' }] }),
        kind({ type: 'array', items: { $ref: '#/$defs/Rule' } }), kind({ type: 'array', items: { type: 'string' } }), kind({ oneOf: [{ const: 'a' }, { const: 'b' }] }), kind({ type: 'string' }, 'when'),
      ],
      nullable: resolve({ anyOf: [{ $ref: '#/$defs/Rule' }, { type: 'null' }] }, root).nullable,
      blank: blank({ $ref: '#/$defs/Rule' }, root),
      errors: check({ type: 'array', items: { $ref: '#/$defs/Rule' } }, root, [{ id: 'x', limit: 0 }, { id: 'y', limit: 'many' }], 'settings.rules'),
    };
  });
  assert.deepEqual(found.kinds, ['number', 'money', 'object', 'list', 'chips', 'enum', 'multiline']);
  assert.equal(found.nullable, true);
  assert.deepEqual(found.blank, { id: '', limit: null });
  assert.deepEqual(found.errors.map(({ field }) => field), ['settings.rules[0].limit', 'settings.rules[1].limit']);
});

test('a till shows what is in the basket, once, and forgets it with the next one', async () => {
  const found = await inPage('lib/till.js', ({ emptyTill, applyToTill, runningTotal }) => {
    let id = 0;
    const event = (type, data, source = '/stores/S001/terminals/T1') => ({ id: String(++id), source, type, time: `2026-01-05T06:00:0${id}.000Z`, data });
    const item = (line, unitPrice) => event('pos.basket.item_added', { basketId: 'B1', employeeId: 'E1', line, productId: `P${line}`, category: 'x', quantity: 2, unitPrice, currency: 'EUR' });
    const events = [event('pos.basket.started', { basketId: 'B1', employeeId: 'E1' }), item(1, 100), item(2, 50)];
    events.push(event('pos.recommendation.made', { basketId: 'B1', productId: 'P1', recommended: [{ productId: 'P9', reason: 'r' }] }, '/plugins/purchase-recommender'));
    events.push(event('pos.basket.item_voided', { basketId: 'B1', employeeId: 'E1', line: 2, productId: 'P2', quantity: 2, unitPrice: 50, currency: 'EUR' }));
    const play = (list, till = emptyTill()) => list.reduce(applyToTill, till);
    const first = play([...events, ...events]);
    const next = play([event('pos.basket.started', { basketId: 'B2', employeeId: 'E2' })], first);
    return { lines: first.basket.lines.length, total: runningTotal(first.basket), suggestions: first.suggestions.length, employee: next.employee, after: next.basket.lines.length, left: next.suggestions.length };
  });
  assert.deepEqual(found, { lines: 2, total: 200, suggestions: 1, employee: 'E2', after: 0, left: 0 });
});

test('paths of fields are read as the form calls them', async () => {
  const found = await inPage('lib/names.js', ({ pathWords }) => ['settings.rules[2].limit', 'stores.S001.timeZone', 'settings.rules[void-rate].aggregate.of', 'eligibility.when'].map(pathWords));
  assert.deepEqual(found, ['Rules 3 › Limit', 'S001 › Time zone', 'Rules “void-rate” › Aggregate › Of', 'When']);
});
