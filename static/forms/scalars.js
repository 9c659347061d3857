// Fields of one value: numbers, money, text, code, dates, times, choices and switches.
import { html, useContext, useEffect, useState } from '../lib/html.js';
import { duration } from '../lib/format.js';
import { words } from '../lib/names.js';
import { Switch } from '../ui/parts.js';
import { FormContext } from './context.js';
import { Frame, useControl } from './frame.js';
import { choices } from './schema.js';

/** What stays a string when it is no number, so that the form can say so beside the field. */
function numberOf(text, scale) {
  const plain = text.trim().replace(/^(-?\d*),(\d+)$/, '$1.$2');
  if (plain === '') return null;
  const value = Number(plain);
  if (!Number.isFinite(value)) return text;
  return scale === 1 ? value : Math.round(value * scale);
}

const textOf = (value, scale) => (typeof value === 'number' && scale !== 1 ? (value / scale).toFixed(2) : value === null || value === undefined ? '' : String(value));

function numberHint(name, value) {
  if (typeof value !== 'number') return '';
  if (/Seconds$/.test(name) && value >= 60) return `= ${duration(value)}`;
  if (/Ms$/.test(name) && value >= 1000) return `= ${value / 1000} s`;
  return '';
}

function range({ minimum, maximum }) {
  if (minimum !== undefined && maximum !== undefined && maximum < 1e12) return `${minimum} to ${maximum}`;
  return minimum > 0 ? `at least ${minimum}` : '';
}

/** A number; with `money`, an amount in minor units that is shown and typed in major ones. */
export function NumberField({ path, name, label, schema, nullable, value, onChange, money = false }) {
  const scale = money ? 100 : 1;
  const [text, setText] = useState(textOf(value, scale));
  useEffect(() => {
    if (numberOf(text, scale) !== (value ?? null)) setText(textOf(value, scale));
  }, [value, scale]);
  const control = useControl(path);
  const hint = [money ? 'money, such as 50.00' : numberHint(name, value), money ? '' : range(schema), nullable ? 'may be empty' : ''].filter(Boolean).join(' · ');
  return html`<${Frame} path=${path} label=${label} help=${money ? schema.description?.replace(' in minor units', '') : schema.description} hint=${hint}>
    <input ...${control} type="text" inputmode="decimal" autocomplete="off" value=${text}
      onInput=${(event) => { setText(event.currentTarget.value); onChange(numberOf(event.currentTarget.value, scale)); }} />
  <//>`;
}

/** A line of text, or several; optional text that is empty becomes null. */
export function TextField({ path, name, label, schema, nullable, value, onChange, multiline = false, type = 'text' }) {
  const { suggestions } = useContext(FormContext);
  const control = useControl(path);
  const list = suggestions[name];
  const set = (event) => onChange(nullable && event.currentTarget.value === '' ? null : event.currentTarget.value);
  const code = name === 'when' || name === 'condition' || name === 'numerator';
  const hint = [code ? 'CEL expression, such as event.data.amount > 5000' : '', nullable ? 'may be empty' : ''].filter(Boolean).join(' · ');
  return html`<${Frame} path=${path} label=${label} help=${schema.description} hint=${hint} wide=${multiline}>
    ${multiline
      ? html`<textarea ...${control} class=${code ? 'code' : ''} rows=${Math.min(8, Math.max(2, String(value ?? '').split('\n').length))} spellcheck=${!code} value=${value ?? ''} onInput=${set}></textarea>`
      : html`<input ...${control} type=${type} autocomplete="off" list=${list ? `${path}--list` : undefined} value=${value ?? ''} onInput=${set} />
        ${list && html`<datalist id=${`${path}--list`}>${list.map((one) => html`<option key=${one} value=${one} />`)}</datalist>`}`}
  <//>`;
}

/** One of a few values. */
export function EnumField({ path, label, schema, nullable, value, onChange }) {
  const { root } = useContext(FormContext);
  const control = useControl(path);
  const options = choices(schema, root);
  const help = options.find((option) => option.value === value)?.help;
  return html`<${Frame} path=${path} label=${label} help=${schema.description} hint=${help}>
    <select ...${control} value=${value ?? ''} onChange=${(event) => onChange(options.find((o) => String(o.value) === event.currentTarget.value)?.value ?? null)}>
      ${(nullable || value === null || value === undefined) && html`<option value="" selected=${(value ?? '') === ''}>–</option>`}
      ${options.map((o) => html`<option key=${o.value} value=${String(o.value)} selected=${o.value === value}>${words(o.value)}</option>`)}
    </select>
  <//>`;
}

/** Yes or no; where neither is an answer too, a choice of three. */
export function BooleanField({ path, label, schema, nullable, value, onChange }) {
  const control = useControl(path);
  if (nullable) {
    const options = [['', 'Either'], ['true', 'Yes'], ['false', 'No']];
    const chosen = String(value ?? '');
    return html`<${Frame} path=${path} label=${label} help=${schema.description}>
      <select ...${control} value=${chosen} onChange=${(event) => onChange({ true: true, false: false }[event.currentTarget.value] ?? null)}>
        ${options.map(([id, text]) => html`<option key=${id} value=${id} selected=${id === chosen}>${text}</option>`)}</select>
    <//>`;
  }
  return html`<${Frame} path=${path} label=${label} help=${schema.description}>
    <${Switch} id=${path} on=${Boolean(value)} label=${label} onChange=${onChange} />
  <//>`;
}

/** What no other field fits: JSON, checked as it is typed. */
export function JsonField({ path, label, schema, value, onChange }) {
  const [text, setText] = useState(JSON.stringify(value ?? null, null, 2));
  const [wrong, setWrong] = useState('');
  const control = useControl(path);
  const set = (event) => {
    setText(event.currentTarget.value);
    try {
      onChange(JSON.parse(event.currentTarget.value));
      setWrong('');
    } catch (error) {
      setWrong(error.message);
    }
  };
  return html`<${Frame} path=${path} label=${label} help=${schema.description} hint=${wrong || 'JSON'} wide deep>
    <textarea ...${control} class="code" rows="5" value=${text} onInput=${set}></textarea>
  <//>`;
}
