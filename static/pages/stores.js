// The shops: name, time zone, whose law applies, business day and opening hours, by form.
import { html, useMemo, useState } from '../lib/html.js';
import { request } from '../lib/api.js';
import { Conflict, SaveBar, useEditing } from '../forms/editing.js';
import { ErrorSummary, SchemaForm } from '../forms/form.js';
import { blank, check, resolve } from '../forms/schema.js';
import { useResource } from '../lib/resource.js';
import { ask } from '../ui/dialog.js';
import { Empty, PageHead, ProblemBox } from '../ui/parts.js';

const ZONES = Intl.supportedValuesOf?.('timeZone') ?? ['UTC', 'Europe/Berlin'];
const SUGGESTIONS = { timeZone: ZONES, jurisdiction: ['DE', 'AT', 'CH', 'FR', 'NL', 'GB', 'US'] };
const pick = (data) => data.stores ?? {};

/** The schema of one store, wherever the server's schema keeps it, with the definitions that it refers to. */
function storeSchema(schema = {}) {
  const root = { $defs: schema.$defs ?? {} };
  const map = schema.properties?.stores ? resolve(schema.properties.stores, schema).schema : schema;
  const one = typeof map.additionalProperties === 'object' ? map.additionalProperties : schema;
  return { ...resolve(one, schema).schema, ...root };
}

function Editor({ loaded, etag, onSaved }) {
  const schema = useMemo(() => storeSchema(loaded.schema), [loaded.schema]);
  const [id, setId] = useState('');
  const tagOf = (data, tag) => tag ?? `"${data.revision}"`;
  const save = async (draft, _patch, tag, reason) => {
    const { data, etag: next } = await request('PUT', '/api/stores', { body: { stores: draft, ...(reason ? { reason } : {}) }, headers: { 'If-Match': tag } });
    return { data, etag: tagOf(data, next) };
  };
  const checks = (draft) => Object.entries(draft).flatMap(([store, value]) => check(schema, schema, value, `stores.${store}`));
  const editing = useEditing({ path: '/api/stores', loaded, etag: tagOf(loaded, etag), pick, save, checks, onSaved });
  const { draft, setDraft } = editing;
  const fresh = id.trim();
  const taken = Object.hasOwn(draft, fresh);
  const add = (event) => {
    event.preventDefault();
    if (!fresh || taken) return;
    setDraft({ ...draft, [fresh]: { ...blank(schema, schema), name: fresh } });
    setId('');
  };
  const remove = async (store) => {
    if (!(await ask({ title: `Remove ${store}?`, text: 'Its events are then dated in UTC and its hours are unknown. Nothing changes until you save.', action: 'Remove', danger: true }))) return;
    setDraft((old) => Object.fromEntries(Object.entries(old).filter(([key]) => key !== store)));
  };
  const entries = Object.entries(draft);
  return html`<${Conflict} editing=${editing} /><${ErrorSummary} errors=${editing.errors} /><${ProblemBox} problem=${editing.problem} />
    ${entries.length === 0 && html`<${Empty} title="No stores">A store that is not listed counts as one in UTC whose business day begins at midnight.<//>`}
    ${entries.map(([store, value]) => html`<div key=${store} data-store=${store}>
      <${SchemaForm} errors=${editing.errors} suggestions=${SUGGESTIONS} parts=${[{ path: `stores.${store}`, title: value.name && value.name !== store ? `${store} · ${value.name}` : store, schema, value, onChange: (next) => setDraft((old) => ({ ...old, [store]: next })) }]} />
      <div class="actions end store-tools"><button type="button" class="small quiet" onClick=${() => remove(store)}>Remove ${store}</button></div></div>`)}
    <form class="row" onSubmit=${add}><label class="filter"><span>Id of a new store</span><input value=${id} placeholder="S003" onInput=${(e) => setId(e.currentTarget.value)} /></label>
      <button class="add-store" disabled=${!fresh || taken}>Add store</button>${taken && html`<span class="field-error">is there already</span>`}</form>
    <${SaveBar} editing=${editing} />`;
}

export default function Stores() {
  const { data, etag, error, reload, setData } = useResource('/api/stores', {}, { pollMs: 5000 });
  return html`<${PageHead} title="Stores" lead="Local time, the law for age checks, and when a store is open." />
    <${ProblemBox} problem=${error} retry=${reload} />
    ${data && html`<${Editor} loaded=${data} etag=${etag} onSaved=${(next, tag) => setData({ schema: data.schema, ...next }, tag)} />`}`;
}
