// A whole form: holds the context of its fields and lists every error at the top, with a way to each field.
import { html, useMemo } from '../lib/html.js';
import { pathWords } from '../lib/names.js';
import { byField, focusField, FormContext } from './context.js';
import { Field } from './field.js';

/** `parts` = `[{path, title, lead, schema, value, onChange}]`; each schema is the root of its own references. */
export function SchemaForm({ parts, errors = [], suggestions = {} }) {
  const found = useMemo(() => byField(errors), [errors]);
  return parts.map((part) => html`<${Part} key=${part.path} part=${part} errors=${found} suggestions=${suggestions} />`);
}

function Part({ part, errors, suggestions }) {
  const { path, title, lead, schema, value, onChange } = part;
  const context = useMemo(() => ({ root: schema, errors, suggestions }), [schema, errors, suggestions]);
  return html`<${FormContext.Provider} value=${context}>
    <section class="card form-part" aria-label=${title}>
      ${title && html`<h2>${title}</h2>`}${lead && html`<p class="lead">${lead}</p>`}
      <${Field} path=${path} name="" schema=${schema} value=${value} onChange=${onChange} bare />
    </section>
  <//>`;
}

/** Every error in one place, announced, each a way to its field. */
export function ErrorSummary({ errors }) {
  if (!errors.length) return null;
  return html`<div class="problem" role="alert" data-error-summary>
    <strong>${errors.length === 1 ? 'One field needs attention' : `${errors.length} fields need attention`}</strong>
    <ul>${errors.map(({ field, message }) => html`<li key=${field + message}><button type="button" class="link" title=${field} onClick=${() => focusField(field)}>${pathWords(field)}</button> ${message}</li>`)}</ul>
  </div>`;
}
