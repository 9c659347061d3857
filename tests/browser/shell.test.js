// The frame: every page opens without errors, the keyboard reaches everything, dark and light, narrow screens.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { browser, eventually } from './browser.js';

const { open } = browser();
const PAGES = ['plugins', 'live', 'alerts', 'orders', 'timesheets', 'terminal', 'deadletters', 'stores', 'audit', 'system'];

for (const name of PAGES) {
  test(`the page ${name} opens without console errors or violations of the content security policy`, async () => {
    const page = await open(name);
    await page.locator(`nav[aria-label=Pages] a[href="#/${name}"][aria-current=page]`).waitFor();
    await page.waitForLoadState('networkidle', { timeout: 1500 }).catch(() => {});
    assert.equal(await page.locator('.problem').count(), 0, 'no problem is shown');
    await page.finish();
  });
}

for (const address of ['nothing-like-it', '%E0%A4%A']) {
  test(`the address ${address} leads to a page that says so`, async () => {
    const page = await open(address);
    await page.locator('h1', { hasText: 'There is no such page' }).waitFor();
    await page.getByRole('link', { name: 'Go to the plugins' }).click();
    await page.locator('[data-plugin]').first().waitFor();
    await page.finish();
  });
}

test('the server sends a policy that allows no inline code', async () => {
  const page = await open('plugins');
  const policy = await page.evaluate(() => fetch('/').then((response) => response.headers.get('content-security-policy')));
  assert.match(policy ?? '', /(script-src|default-src) 'self'|script-src 'self'/);
  assert.doesNotMatch(policy, /unsafe-(inline|eval)/);
  await page.finish();
});

test('the colours follow the system, and the switch is remembered', async () => {
  const page = await open('plugins', { colorScheme: 'dark' });
  const background = () => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
  const brightness = (text) => text.match(/[\d.]+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0);
  assert.ok(brightness(await background()) < 200, 'dark at first');
  await page.click('[data-theme-switch]');
  assert.ok(brightness(await background()) > 600, 'light after the switch');
  await page.reload();
  await page.locator('h1').waitFor();
  assert.ok(brightness(await background()) > 600, 'and still light after a reload');
  await page.finish();
});

test('the keyboard alone opens pages, rows and the help', async () => {
  const page = await open('plugins');
  await page.keyboard.press('Tab');
  assert.equal(await page.evaluate(() => document.activeElement.textContent), 'Skip to content');
  await page.keyboard.press('Enter');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'main');
  await page.locator('[data-plugin]').first().waitFor();
  await page.keyboard.press('j');
  await page.keyboard.press('j');
  const second = await page.locator('[data-plugin] a[data-row]').nth(1).getAttribute('href');
  assert.equal(await page.evaluate(() => document.activeElement.getAttribute('href')), second);
  await page.keyboard.press('Enter');
  await page.waitForURL((url) => url.hash === second);
  await page.keyboard.press('g');
  await page.keyboard.press('a');
  await page.locator('h1', { hasText: 'Alerts' }).waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.tagName), 'H1', 'the title of the new page has the focus');
  await page.keyboard.press('?');
  await page.getByRole('dialog', { name: 'Keyboard shortcuts' }).waitFor();
  await page.keyboard.press('Escape');
  await eventually(async () => (await page.getByRole('dialog').count()) === 0, 'Escape closes the help');
  await page.keyboard.press('g');
  await page.keyboard.press('l');
  await page.locator('h1', { hasText: 'Live' }).waitFor();
  await page.keyboard.press('/');
  assert.equal(await page.evaluate(() => document.activeElement.tagName), 'INPUT');
  await page.finish();
});

test('what has the focus can be seen', async () => {
  const page = await open('plugins');
  await page.locator('[data-plugin]').first().waitFor();
  for (let step = 0; step < 6; step++) await page.keyboard.press('Tab');
  const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
  assert.equal(outline, 'solid');
  await page.finish();
});

for (const name of PAGES) {
  test(`the page ${name} fits a narrow screen`, async () => {
    const page = await open(name, { viewport: { width: 390, height: 800 } });
    await page.waitForLoadState('networkidle', { timeout: 1500 }).catch(() => {});
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(overflow <= 0, `the page is ${overflow} pixels too wide`);
    await page.finish();
  });
}

test('on a narrow screen the navigation opens from a button', async () => {
  const page = await open('plugins', { viewport: { width: 390, height: 800 } });
  await page.getByRole('button', { name: 'Pages' }).click();
  await page.getByRole('link', { name: 'Time sheets' }).click();
  await page.locator('h1', { hasText: 'Time sheets' }).waitFor();
  await page.finish();
});
