// What every field of a form needs to know: the root schema, the errors by path, and suggestions by key.
import { createContext, useContext } from '../lib/html.js';

export const FormContext = createContext({ root: {}, errors: {}, suggestions: {} });

/** The messages for exactly this field; `deep`: also those for what is inside it and has no place of its own. */
export function useErrors(path, deep = false) {
  const { errors } = useContext(FormContext);
  if (!deep) return errors[path] ?? [];
  return Object.entries(errors).filter(([field]) => isInside(field, path)).flatMap(([field, messages]) => messages.map((message) => (field === path ? message : `${field.slice(path.length)} ${message}`)));
}

const isInside = (field, path) => field === path || field.startsWith(`${path}.`) || field.startsWith(`${path}[`);

/** True if this field or one inside it has an error. */
export function useHasErrorInside(path) {
  const { errors } = useContext(FormContext);
  return Object.keys(errors).some((field) => isInside(field, path));
}

/** Errors of the server by the path of their field. */
export function byField(errors) {
  const found = {};
  for (const { field, message } of errors) (found[field] ??= []).push(message);
  return found;
}

/** Moves the focus to a field, or to the nearest one around it, and opens what is folded around it. */
export function focusField(path) {
  for (let at = path; at; at = at.replace(/(\.[^.[\]]+|\[[^\]]*\])$/, '') === at ? '' : at.replace(/(\.[^.[\]]+|\[[^\]]*\])$/, '')) {
    const element = document.getElementById(at);
    if (!element) continue;
    for (let parent = element.closest('details'); parent; parent = parent.parentElement.closest('details')) parent.open = true;
    const target = element.matches('input, select, textarea, button') ? element : element.querySelector('input, select, textarea, button, summary');
    element.scrollIntoView({ block: 'center' });
    target?.focus({ preventScroll: true });
    return;
  }
}
