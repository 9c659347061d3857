// JSON merge patches (RFC 7396) and readable differences between two values.

const plain = (value) => value !== null && typeof value === 'object' && !Array.isArray(value);

/** Deep equality of JSON values; a missing key equals null, as it does for optional settings. */
export function same(a, b) {
  if (a === b || (a ?? null) === (b ?? null)) return true;
  if (Array.isArray(a) && Array.isArray(b)) return a.length === b.length && a.every((item, index) => same(item, b[index]));
  if (!plain(a) || !plain(b)) return false;
  return [...new Set([...Object.keys(a), ...Object.keys(b)])].every((key) => same(a[key], b[key]));
}

/** The merge patch that makes `next` of `base`; nothing if they are the same. */
export function mergePatch(base, next) {
  if (same(base, next)) return undefined;
  if (!plain(base) || !plain(next)) return next ?? null;
  const patch = {};
  for (const key of new Set([...Object.keys(base), ...Object.keys(next)])) {
    const change = mergePatch(base[key], next[key]);
    if (change !== undefined) patch[key] = change;
  }
  return patch;
}

/** Applies a merge patch. */
export function applyPatch(base, patch) {
  if (!plain(patch)) return patch;
  const next = plain(base) ? { ...base } : {};
  for (const [key, change] of Object.entries(patch)) {
    if (change === null) delete next[key];
    else next[key] = applyPatch(next[key], change);
  }
  return next;
}

const isList = (value) => Array.isArray(value) && value.some(plain);
const label = (item, index) => (plain(item) && (item.id ?? item.name)) || index;

/** What differs, leaf by leaf: `[{path, before, after}]`. Items of a list are matched by `id` where they have one. */
export function changes(before, after, path = '') {
  if (same(before, after)) return [];
  if (plain(before) && plain(after)) {
    return [...new Set([...Object.keys(before), ...Object.keys(after)])]
      .flatMap((key) => changes(before[key], after[key], path ? `${path}.${key}` : key));
  }
  if ((isList(before) || isList(after)) && Array.isArray(before ?? []) && Array.isArray(after ?? [])) {
    const old = new Map((before ?? []).map((item, index) => [label(item, index), item]));
    const now = new Map((after ?? []).map((item, index) => [label(item, index), item]));
    const found = [...new Set([...old.keys(), ...now.keys()])].flatMap((key) => changes(old.get(key), now.get(key), `${path}[${key}]`));
    return found.length ? found : [{ path, before: 'order', after: 'changed' }];
  }
  return [{ path, before, after }];
}
