// A list of objects: rules, pairings, policies. Each item folds; items can be added, copied, removed and moved.
import { html, useContext, useLayoutEffect, useRef, useState } from '../lib/html.js';
import { words } from '../lib/names.js';
import { Icon } from '../ui/icons.js';
import { Badge, severityTone } from '../ui/parts.js';
import { FormContext, useErrors, useHasErrorInside } from './context.js';
import { Field } from './field.js';
import { FieldErrors, Help } from './frame.js';
import { blank, isMoney, resolve } from './schema.js';

const singular = (name) => words(name).toLowerCase().replace(/ies$/, 'y').replace(/s$/, '');
const text = (value) => (Array.isArray(value) ? value.join(', ') : String(value));

/** What a folded item says of itself. */
function Summary({ item, index }) {
  if (!item || typeof item !== 'object') return html`<b>${index + 1}</b>`;
  const { id, name, severity, status, limit } = item;
  if (name || id) {
    return html`<b>${name || id}</b>${severity && html` <${Badge} tone=${severityTone(severity)}>${severity}<//>`}
      ${status && status !== 'active' && html` <${Badge}>${status}<//>`}${name && id && html` <span class="muted mono">${id}</span>`}
      ${limit !== undefined && html` <span class="muted">limit ${isMoney('limit', item) && Number.isFinite(limit) ? (limit / 100).toFixed(2) : limit}</span>`}`;
  }
  if (item.category && item.minimumAge !== undefined) {
    const { category, jurisdiction, minimumAge, challengeAge, effectiveFrom } = item;
    const rest = [jurisdiction && jurisdiction !== '*' ? jurisdiction : 'elsewhere', minimumAge === 0 ? 'no check' : `from ${minimumAge}`, challengeAge && `document below ${challengeAge}`, effectiveFrom > '1970-01-01' && `since ${effectiveFrom}`];
    return html`<span>${category}</span><span class="muted"> · ${rest.filter(Boolean).join(' · ')}</span>`;
  }
  const parts = Object.entries(item).filter(([, value]) => value !== null && value !== '' && typeof value !== 'object' || (Array.isArray(value) && value.length && typeof value[0] === 'string'));
  return parts.length ? parts.slice(0, 4).map(([key, value], at) => html`<span key=${key} class=${at ? 'muted' : ''}>${key === 'recommend' ? ' → ' : at ? ' · ' : ''}${text(value)}</span>`) : html`<b>New</b>`;
}

function Item({ path, index, total, name, schema, item, onChange, onRemove, onMove, onCopy, fresh }) {
  const inside = useHasErrorInside(path);
  const details = useRef(null);
  useLayoutEffect(() => {
    if (fresh) {
      details.current.open = true;
      details.current.querySelector('input, select, textarea')?.focus();
    }
  }, []);
  useLayoutEffect(() => {
    if (inside) details.current.open = true;
  }, [inside]);
  const what = `${singular(name)} ${index + 1}`;
  return html`<li class=${inside ? 'item invalid' : 'item'} id=${path}>
    <details ref=${details}>
      <summary><span class="item-title"><${Summary} item=${item} index=${index} /></span></summary>
      <div class="item-body"><${Field} path=${path} name="" schema=${schema} value=${item} onChange=${onChange} bare /></div>
    </details>
    <div class="item-tools">
      <button type="button" class="icon" aria-label=${`Move ${what} up`} disabled=${index === 0} onClick=${() => onMove(-1)}>↑</button>
      <button type="button" class="icon" aria-label=${`Move ${what} down`} disabled=${index === total - 1} onClick=${() => onMove(1)}>↓</button>
      <button type="button" class="icon" aria-label=${`Copy ${what}`} title="Copy" onClick=${onCopy}><${Icon} name="copy" /></button>
      <button type="button" class="icon" aria-label=${`Remove ${what}`} title="Remove" onClick=${onRemove}>✕</button>
    </div>
    <${FieldErrors} path=${path} />
  </li>`;
}

/** The list. Items keep an identity of their own, so that what is unfolded stays so when they move. */
export function ListField({ path, name, label, schema, value, onChange }) {
  const { root } = useContext(FormContext);
  const items = value ?? [];
  const ids = useRef({ list: [], next: 1 });
  const [freshId, setFreshId] = useState(0);
  const keys = ids.current;
  while (keys.list.length < items.length) keys.list.push(keys.next++);
  keys.list.length = items.length;
  const itemSchema = resolve(schema.items ?? {}, root).schema;
  const invalid = useErrors(path).length > 0;

  const change = (nextItems, nextKeys) => {
    keys.list = nextKeys;
    onChange(nextItems);
  };
  const insert = (at, item) => {
    const id = keys.next++;
    setFreshId(id);
    change(items.toSpliced(at, 0, item), keys.list.toSpliced(at, 0, id));
  };
  const copyOf = (item) => ({ ...structuredClone(item), ...(item.id ? { id: `${item.id}-copy` } : {}), ...(item.name ? { name: `${item.name} (copy)` } : {}) });
  const move = (from, step) => {
    const swap = (list) => list.with(from, list[from + step]).with(from + step, list[from]);
    change(swap(items), swap(keys.list));
  };
  return html`<fieldset class=${invalid ? 'field wide invalid' : 'field wide'} id=${path}>
    <legend>${label} <span class="muted">${items.length}</span></legend>
    ${schema.description && html`<div class="field-help"><${Help} text=${schema.description} /></div>`}
    <ol class="items">${items.map((item, index) => html`<${Item} key=${keys.list[index]} path=${`${path}[${index}]`} index=${index} total=${items.length} name=${name}
      schema=${itemSchema} item=${item} fresh=${keys.list[index] === freshId}
      onChange=${(next) => change(items.with(index, next), keys.list)}
      onRemove=${() => change(items.toSpliced(index, 1), keys.list.toSpliced(index, 1))}
      onMove=${(step) => move(index, step)} onCopy=${() => insert(index + 1, copyOf(item))} />`)}</ol>
    <button type="button" class="small" data-add=${path} onClick=${() => insert(items.length, blank(itemSchema, root))}>Add ${singular(name)}</button>
    <${FieldErrors} path=${path} />
  </fieldset>`;
}
