// Opening hours of a week: open or closed for each day, from and to as times. The value is `{mon: "07:00-21:00", …}`.
import { html } from '../lib/html.js';
import { Switch } from '../ui/parts.js';
import { FieldErrors, Frame } from './frame.js';

const DAYS = [['mon', 'Monday'], ['tue', 'Tuesday'], ['wed', 'Wednesday'], ['thu', 'Thursday'], ['fri', 'Friday'], ['sat', 'Saturday'], ['sun', 'Sunday']];

const split = (span) => {
  const [from = '', to = ''] = String(span ?? '').split('-').map((part) => part.trim());
  const pad = (text) => (text === '24:00' ? '00:00' : text.padStart(5, '0'));
  return { from: from && pad(from), to: to && pad(to) };
};

function Day({ path, id, name, span, onChange, copyDown }) {
  const { from, to } = split(span);
  const open = Boolean(span);
  const night = open && from && to && to <= from;
  return html`<div class="day" role="group" aria-label=${name}>
    <span class="day-name">${name}</span>
    <${Switch} id=${`${path}.${id}`} on=${open} label=${`${name} open`} onChange=${(on) => onChange(on ? '08:00-20:00' : null)} />
    ${open
      ? html`<span class="span"><input type="time" aria-label=${`${name} from`} data-day=${`${id}-from`} value=${from} onInput=${(e) => onChange(`${e.currentTarget.value}-${to}`)} />
          <span aria-hidden="true">to</span>
          <input type="time" aria-label=${`${name} to`} data-day=${`${id}-to`} value=${to} onInput=${(e) => onChange(`${from}-${e.currentTarget.value}`)} />
          ${night && html`<span class="muted">${from === '00:00' && to === '00:00' ? 'all day' : 'next day'}</span>`}</span>`
      : html`<span class="muted">closed</span>`}
    ${copyDown && open && html`<button type="button" class="small quiet" onClick=${copyDown} title="Use these hours for every day below">Copy down</button>`}
    <${FieldErrors} path=${`${path}.${id}`} />
  </div>`;
}

/** The week. `nullable`: hours need not be known at all. */
export function HoursField({ path, label, schema, nullable, value, onChange, unset = 'No hours set' }) {
  const set = (id, span) => {
    const next = { ...value };
    if (span) next[id] = span;
    else delete next[id];
    onChange(next);
  };
  if (!value && nullable) {
    return html`<${Frame} path=${path} label=${label} help=${schema.description} group>
      <div class="row"><span class="muted">${unset}</span>
        <button type="button" class="small" onClick=${() => onChange(Object.fromEntries(DAYS.slice(0, 6).map(([id]) => [id, '08:00-20:00'])))}>Set hours</button></div>
    <//>`;
  }
  return html`<${Frame} path=${path} label=${label} help=${schema.description} group>
    <div class="week">${DAYS.map(([id, name], index) => html`<${Day} key=${id} path=${path} id=${id} name=${name} span=${value?.[id]} onChange=${(span) => set(id, span)}
      copyDown=${index < 6 && (() => onChange({ ...value, ...Object.fromEntries(DAYS.slice(index + 1).map(([day]) => [day, value[id]])) }))} />`)}</div>
    ${nullable && html`<button type="button" class="small quiet" onClick=${() => onChange(null)}>Remove hours</button>`}
  <//>`;
}
