// Reads a JSON Schema (2020-12, as schemars writes it) and says which kind of field each part is.

const DAYS = ['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'];
const MULTILINE = new Set(['when', 'condition', 'note', 'comment']);
const MONEY = new Set(['minimumAmount', 'maximumAmount', 'minorUnits']);

function follow(schema, root) {
  let at = schema === true ? {} : schema;
  for (let hops = 0; hops < 20; hops++) {
    const { $ref, allOf, ...siblings } = at;
    const single = $ref === undefined && allOf?.length === 1 ? allOf[0] : null;
    if ($ref === undefined && !single) return at;
    const target = single ?? $ref.replace(/^#\/?/, '').split('/').filter(Boolean)
      .reduce((node, part) => node?.[part.replaceAll('~1', '/').replaceAll('~0', '~')], root) ?? {};
    at = { ...target, ...siblings };
  }
  return at;
}

/** The schema with `$ref` followed and "or null" taken apart: `{schema, nullable}`. */
export function resolve(schema, root) {
  let at = follow(schema, root);
  let nullable = false;
  for (const word of ['anyOf', 'oneOf']) {
    const options = at[word];
    if (!options) continue;
    const real = options.filter((option) => follow(option, root).type !== 'null');
    if (real.length < options.length) nullable = true;
    if (real.length === 1) {
      const { [word]: _, ...siblings } = at;
      at = { ...follow(real[0], root), ...siblings };
    } else if (real.length < options.length) at = { ...at, [word]: real };
  }
  if (Array.isArray(at.type) && at.type.includes('null')) {
    nullable = true;
    const types = at.type.filter((type) => type !== 'null');
    at = { ...at, type: types.length === 1 ? types[0] : types };
  }
  if (Array.isArray(at.enum) && at.enum.includes(null)) at = { ...at, enum: at.enum.filter((value) => value !== null) };
  return { schema: at, nullable };
}

/** The values of an enumeration as `[{value, label?, help?}]`, or nothing. */
export function choices(schema, root) {
  if (schema.enum) return schema.enum.map((value) => ({ value }));
  const options = (schema.oneOf ?? schema.anyOf)?.map((option) => follow(option, root));
  if (!options?.length || !options.every((o) => o.const !== undefined || (o.enum && o.type === 'string'))) return null;
  return options.flatMap((o) => (o.const !== undefined ? [{ value: o.const, help: o.description }] : o.enum.map((value) => ({ value }))));
}

/** A union of objects that one key tells apart: `{tag, variants: {value: schema}}`, or nothing. */
export function tagged(schema, root) {
  const options = (schema.oneOf ?? schema.anyOf)?.map((option) => follow(option, root));
  if (!options?.length || !options.every((o) => o.properties)) return null;
  const only = (o, key) => o.properties[key]?.const ?? (o.properties[key]?.enum?.length === 1 ? o.properties[key].enum[0] : undefined);
  const tag = Object.keys(options[0].properties).find((key) => options.every((o) => only(o, key) !== undefined));
  return tag ? { tag, variants: Object.fromEntries(options.map((o) => [only(o, tag), { ...o, type: 'object' }])) } : null;
}

/** Either a list of words or one text: `{list, text}` as schemas, or nothing. */
export function wordsOrText(schema, root) {
  const options = (schema.oneOf ?? schema.anyOf)?.map((option) => follow(option, root));
  const list = options?.find((o) => o.type === 'array');
  const text = options?.find((o) => o.type === 'string');
  return options?.length === 2 && list && text ? { list, text } : null;
}

/** The kind of field for a resolved schema. `name` is the key it is under, `siblings` the object around it. */
export function kindOf(schema, root, name = '', siblings = {}) {
  if (choices(schema, root)) return 'enum';
  if (tagged(schema, root)) return 'union';
  if (wordsOrText(schema, root)) return 'wordsOrText';
  if (schema.type === 'boolean') return 'boolean';
  if (schema.type === 'integer' || schema.type === 'number') return isMoney(name, siblings) ? 'money' : 'number';
  if (schema.type === 'string') {
    if (schema.format === 'date') return 'date';
    if (name === 'timeZone') return 'timeZone';
    if (name === 'businessDayStart') return 'time';
    return MULTILINE.has(name) || schema.format === 'textarea' ? 'multiline' : 'text';
  }
  if (schema.type === 'array') {
    const item = resolve(schema.items ?? {}, root).schema;
    if (item.type === 'string') return choices(item, root) ? 'checks' : 'chips';
    return item.type === 'object' || item.properties || tagged(item, root) ? 'list' : 'json';
  }
  if (schema.properties && DAYS.every((day) => day in schema.properties)) return 'hours';
  if (schema.properties) return 'object';
  if (schema.type === 'object' && schema.additionalProperties && schema.additionalProperties !== true) return 'map';
  return 'json';
}

/** True if the number under that key is an amount in minor units. */
export function isMoney(name, siblings) {
  if (MONEY.has(name)) return true;
  const aggregate = siblings?.aggregate;
  return name === 'limit' && aggregate?.kind === 'sum' && /amount|total|price|subtotal/i.test(aggregate.of ?? '');
}

/** A new value for a schema, for what a person adds to a list. */
export function blank(schema, root) {
  const { schema: at, nullable } = resolve(schema, root);
  if (at.default !== undefined) return structuredClone(at.default);
  if (nullable) return null;
  const union = tagged(at, root);
  if (union) {
    const [value, variant] = Object.entries(union.variants)[0];
    return { ...blank(variant, root), [union.tag]: value };
  }
  const values = choices(at, root);
  if (values) return values[0].value;
  if (at.const !== undefined) return at.const;
  if (at.properties) {
    const required = at.required ?? [];
    return Object.fromEntries(Object.entries(at.properties).filter(([key, part]) => required.includes(key) || part.default !== undefined)
      .map(([key, part]) => [key, blank(part, root)]));
  }
  return { string: '', array: [], boolean: false, object: {} }[at.type] ?? null;
}

/** What the schema alone can tell is wrong: `[{field, message}]`. The server has the last word. */
export function check(schema, root, value, path) {
  const { schema: at, nullable } = resolve(schema, root);
  if (value === null || value === undefined) return [];
  const wrong = (message) => [{ field: path, message }];
  if (at.type === 'integer' || at.type === 'number') {
    if (typeof value !== 'number') return wrong('is not a number');
    if (at.type === 'integer' && !Number.isInteger(value)) return wrong('must be a whole number');
    if (at.minimum !== undefined && value < at.minimum) return wrong(`must be at least ${at.minimum}`);
    if (at.maximum !== undefined && value > at.maximum) return wrong(`must be at most ${at.maximum}`);
    if (at.exclusiveMinimum !== undefined && value <= at.exclusiveMinimum) return wrong(`must be more than ${at.exclusiveMinimum}`);
    return [];
  }
  if (Array.isArray(value)) return value.flatMap((item, index) => check(at.items ?? {}, root, item, `${path}[${index}]`));
  if (typeof value === 'object') {
    const union = tagged(at, root);
    const properties = (union ? union.variants[value[union.tag]]?.properties : at.properties) ?? {};
    return Object.entries(value).flatMap(([key, part]) => {
      const partSchema = properties[key] ?? (typeof at.additionalProperties === 'object' ? at.additionalProperties : null);
      if (!partSchema) return [];
      const required = (at.required ?? []).includes(key) && part === null && !resolve(partSchema, root).nullable;
      return required ? [{ field: `${path}.${key}`, message: 'is needed' }] : check(partSchema, root, part, `${path}.${key}`);
    });
  }
  if (typeof value === 'string' && at.pattern && !(nullable && value === '')) {
    try {
      if (!new RegExp(at.pattern, 'u').test(value)) return wrong(at.examples?.[0] ? `must look like ${at.examples[0]}` : 'does not have the expected form');
    } catch {
      return [];
    }
  }
  return [];
}
