// One field of a form: looks at the schema and picks the control; objects hold further fields.
import { html, useContext } from '../lib/html.js';
import { words } from '../lib/names.js';
import { ChecksField, ChipsField } from './chips.js';
import { FormContext } from './context.js';
import { FieldErrors, Frame, Help } from './frame.js';
import { HoursField } from './hours.js';
import { ListField } from './lists.js';
import { BooleanField, EnumField, JsonField, NumberField, TextField } from './scalars.js';
import { blank, kindOf, resolve, tagged, wordsOrText } from './schema.js';

const WITHOUT_FRAME = { hours: HoursField, list: ListField, chips: ChipsField, checks: ChecksField, enum: EnumField, boolean: BooleanField, number: NumberField, text: TextField, json: JsonField };

/** A field for `value` under `schema`. `bare`: an object without a frame of its own, for items of lists and whole forms. */
export function Field({ path, name, schema: given, value, onChange, siblings, bare = false }) {
  const { root } = useContext(FormContext);
  const { schema, nullable } = resolve(given, root);
  // A field's own title; what it refers to may only bear the name of a type.
  const label = given.title ?? (schema.title && !/^[A-Z][A-Za-z]+$/.test(schema.title) ? schema.title : words(name));
  const kind = kindOf(schema, root, name, siblings);
  const props = { path, name, label, schema, nullable, value, onChange };
  const Simple = WITHOUT_FRAME[kind];
  if (Simple) return html`<${Simple} ...${props} />`;
  if (kind === 'money') return html`<${NumberField} ...${props} money />`;
  if (kind === 'multiline') return html`<${TextField} ...${props} multiline />`;
  if (kind === 'date' || kind === 'time') return html`<${TextField} ...${props} type=${kind} />`;
  if (kind === 'timeZone') return html`<${TextField} ...${props} />`;
  if (kind === 'union') return html`<${Union} ...${props} bare=${bare} />`;
  if (kind === 'wordsOrText') return html`<${WordsOrText} ...${props} />`;
  if (kind === 'map') return html`<${MapField} ...${props} />`;
  return html`<${ObjectField} ...${props} bare=${bare} />`;
}

function ObjectField({ path, label, schema, nullable, value, onChange, bare }) {
  const { root } = useContext(FormContext);
  const fields = Object.entries(schema.properties ?? {}).map(([key, part]) => html`<${Field} key=${key} path=${path ? `${path}.${key}` : key}
    name=${key} schema=${part} value=${value?.[key]} siblings=${value ?? {}} onChange=${(next) => onChange({ ...value, [key]: next })} />`);
  if (bare) return html`<div class="fields">${fields}</div>`;
  const absent = nullable && (value === null || value === undefined);
  return html`<${Frame} path=${path} label=${label} help=${schema.description} group>
    ${absent
      ? html`<button type="button" class="small" onClick=${() => onChange(blank({ ...schema, default: undefined }, root) ?? {})}>Set</button>`
      : html`<div class="fields">${fields}</div>${nullable && html`<button type="button" class="small quiet" onClick=${() => onChange(null)}>Remove</button>`}`}
  <//>`;
}

/** An object whose other keys depend on one of them. */
function Union({ path, name, label, schema, nullable, value, onChange, bare }) {
  const { root } = useContext(FormContext);
  const { tag, variants } = tagged(schema, root);
  const chosen = value?.[tag] ?? '';
  const pick = { enum: Object.keys(variants), description: variants[chosen]?.description };
  const choose = (next) => onChange(next ? { ...blank(variants[next], root), [tag]: next } : null);
  const body = html`<div class="fields">
    <${EnumField} path=${`${path}.${tag}`} label=${words(tag)} schema=${pick} nullable=${nullable} value=${chosen || null} onChange=${choose} />
    ${chosen && variants[chosen] && Object.entries(variants[chosen].properties).filter(([key]) => key !== tag).map(([key, part]) => html`<${Field} key=${key}
      path=${`${path}.${key}`} name=${key} schema=${part} value=${value[key]} siblings=${value} onChange=${(next) => onChange({ ...value, [key]: next })} />`)}
  </div>`;
  return bare ? body : html`<${Frame} path=${path} label=${label || words(name)} help=${schema.description} group>${body}<//>`;
}

/** A list of words or one expression: the person says which. */
function WordsOrText(props) {
  const { path, label, schema, nullable, value, onChange } = props;
  const { root } = useContext(FormContext);
  const { list, text } = wordsOrText(schema, root);
  const form = Array.isArray(value) ? 'list' : typeof value === 'string' ? 'text' : '';
  const options = [...(nullable || !form ? [['', 'Nothing']] : []), ['list', 'These'], ['text', 'An expression']];
  const choose = (event) => onChange({ list: [], text: '' }[event.currentTarget.value] ?? null);
  return html`<div class="field wide"><label for=${`${path}--form`}>${label}</label>
    ${schema.description && html`<div class="field-help"><${Help} text=${schema.description} /></div>`}
    <select id=${`${path}--form`} class="narrow" value=${form} onChange=${choose}>${options.map(([id, what]) => html`<option key=${id} value=${id} selected=${id === form}>${what}</option>`)}</select>
    ${form === 'list' && html`<${ChipsField} ...${props} label=${`${label}: these`} name="eventTypes" schema=${list} nullable=${false} />`}
    ${form === 'text' && html`<${TextField} ...${props} label=${`${label}: expression`} schema=${text} nullable=${false} multiline />`}
    ${form === '' && html`<${FieldErrors} path=${path} deep />`}
  </div>`;
}

/** An object with free keys; their names stay as they are. */
function MapField({ path, label, schema, value, onChange }) {
  return html`<fieldset class="field wide" id=${path}><legend>${label}</legend>
    ${Object.entries(value ?? {}).map(([key, part]) => html`<${Field} key=${key} path=${`${path}.${key}`} name=${key} schema=${schema.additionalProperties} value=${part}
      onChange=${(next) => onChange({ ...value, [key]: next })} />`)}
    <${FieldErrors} path=${path} />
  </fieldset>`;
}
