// A list of words as chips: type and press Enter or comma; Backspace takes the last one back.
import { html, useContext, useRef, useState } from '../lib/html.js';
import { typeName, words } from '../lib/names.js';
import { FormContext } from './context.js';
import { Frame, useControl } from './frame.js';
import { choices, resolve } from './schema.js';

/** A list of free words, with suggestions. */
export function ChipsField({ path, name, label, schema, value, onChange }) {
  const { suggestions } = useContext(FormContext);
  const control = useControl(path);
  const [text, setText] = useState('');
  const input = useRef(null);
  const items = value ?? [];
  const left = (suggestions[name] ?? []).filter((one) => !items.includes(one));
  const add = (typed) => {
    const fresh = typed.split(/[,\n]/).map((one) => one.trim()).filter((one) => one && !items.includes(one));
    if (fresh.length) onChange([...items, ...new Set(fresh)]);
    setText('');
  };
  const remove = (index) => {
    onChange(items.filter((_, at) => at !== index));
    input.current.focus();
  };
  const onKeyDown = (event) => {
    if (event.key === 'Enter' || event.key === ',') {
      if (!text.trim() && event.key === 'Enter') return;
      event.preventDefault();
      add(text);
    } else if (event.key === 'Backspace' && text === '' && items.length) remove(items.length - 1);
  };
  const onInput = (event) => {
    const typed = event.currentTarget.value;
    // A suggestion that is picked from the list arrives whole, without a key press.
    if (event.inputType === 'insertReplacementText' || (!event.inputType && left.includes(typed))) add(typed);
    else setText(typed);
  };
  return html`<${Frame} path=${path} label=${label} help=${schema.description} hint="Enter adds" wide deep>
    <div class="chips" onClick=${(event) => event.target === event.currentTarget && input.current.focus()}>
      <ul aria-label=${label}>${items.map((item, index) => html`<li key=${item} class="chip"><span>${item}</span>
        <button type="button" aria-label=${`Remove ${item}`} onClick=${() => remove(index)}>✕</button></li>`)}</ul>
      <input ...${control} ref=${input} type="text" autocomplete="off" spellcheck=${false} value=${text} placeholder=${!items.length && path.startsWith('eligibility.') ? 'all' : ''}
        list=${left.length ? `${path}--list` : undefined} onInput=${onInput} onKeyDown=${onKeyDown} onBlur=${() => text.trim() && add(text)} />
      ${left.length > 0 && html`<datalist id=${`${path}--list`}>${left.map((one) => html`<option key=${one} value=${one} />`)}</datalist>`}
    </div>
  <//>`;
}

/** A list of words out of a fixed few: boxes to tick. */
export function ChecksField({ path, label, schema, value, onChange }) {
  const { root } = useContext(FormContext);
  const options = choices(resolve(schema.items, root).schema, root);
  const items = value ?? [];
  const toggle = (one) => onChange(items.includes(one) ? items.filter((item) => item !== one) : [...items, one]);
  return html`<${Frame} path=${path} label=${label} help=${schema.description} group deep>
    <div class="checks">${options.map((o) => html`<label key=${o.value}><input type="checkbox" checked=${items.includes(o.value)} onChange=${() => toggle(o.value)} />
      <span title=${o.value}>${/\./.test(o.value) ? typeName(o.value) : words(o.value)}</span></label>`)}</div>
  <//>`;
}
