// Modal dialogs on the browser's own <dialog>: focus is kept inside, Escape closes, focus goes back afterwards.
import { html, signal, useEffect, useRef } from '../lib/html.js';

/** A dialog that is open for as long as it is rendered. */
export function Dialog({ title, onClose, children, wide = false, dismissable = true }) {
  const element = useRef(null);
  useEffect(() => {
    const dialog = element.current;
    const before = document.activeElement;
    dialog.showModal();
    return () => {
      dialog.close();
      before?.focus?.();
    };
  }, []);
  return html`<dialog ref=${element} class=${wide ? 'dialog wide' : 'dialog'} aria-labelledby="dialog-title"
    onCancel=${(event) => { event.preventDefault(); if (dismissable) onClose(); }}
    onClick=${(event) => dismissable && event.target === element.current && onClose()}>
    <div class="dialog-body">
      <header><h2 id="dialog-title">${title}</h2>
        ${dismissable && html`<button type="button" class="icon" aria-label="Close" onClick=${onClose}>✕</button>`}
      </header>
      ${children}
    </div>
  </dialog>`;
}

const question = signal(null);

/** Asks before something that cannot be undone; resolves to true or false. */
export function ask({ title, text, action, danger = false }) {
  return new Promise((resolve) => {
    question.value = { title, text, action, danger, resolve };
  });
}

/** Shows the question of [`ask`]. Rendered once, by the shell. */
export function Questions() {
  const now = question.value;
  if (!now) return null;
  const answer = (yes) => {
    question.value = null;
    now.resolve(yes);
  };
  return html`<${Dialog} title=${now.title} onClose=${() => answer(false)}>
    <p>${now.text}</p>
    <div class="actions end">
      <button type="button" onClick=${() => answer(false)}>Cancel</button>
      <button type="button" class=${now.danger ? 'danger' : 'primary'} data-confirm onClick=${() => answer(true)}>${now.action}</button>
    </div>
  <//>`;
}
