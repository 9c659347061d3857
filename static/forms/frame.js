// Label, help text and errors around one control.
import { html } from '../lib/html.js';
import { useErrors } from './context.js';

/** The attributes that tie a control to its label, help and errors. */
export function useControl(path) {
  const errors = useErrors(path);
  return {
    id: path,
    name: path,
    'aria-invalid': errors.length ? 'true' : undefined,
    'aria-describedby': `${path}--help ${path}--error`,
  };
}

/** Help as the schema has it: what stands between backticks is code. */
export const Help = ({ text }) => String(text).split('`').map((part, at) => (at % 2 ? html`<code>${part}</code>` : part));

/** The messages beside a field. */
export function FieldErrors({ path, deep = false }) {
  const errors = useErrors(path, deep);
  return html`<div id=${`${path}--error`} class="field-error" aria-live="polite" data-error-for=${path}>${errors.map((message) => html`<p key=${message}>${message}</p>`)}</div>`;
}

/** One labelled control. `group`: it is made of several; `deep`: it shows the errors of its parts. */
export function Frame({ path, label, help, hint, group = false, children, wide = false, deep = false }) {
  const invalid = useErrors(path, deep).length > 0;
  const body = html`${children}
    <div id=${`${path}--help`} class="field-help">${hint && html`<span class="hint">${hint}</span>`}${help && html`<${Help} text=${help} />`}</div>
    <${FieldErrors} path=${path} deep=${deep} />`;
  const names = `field${wide || group ? ' wide' : ''}${invalid ? ' invalid' : ''}`;
  return group
    ? html`<fieldset class=${names} id=${path}><legend>${label}</legend>${body}</fieldset>`
    : html`<div class=${names}><label for=${path}>${label}</label>${body}</div>`;
}
