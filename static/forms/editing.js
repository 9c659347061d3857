// The draft of something with a revision: what changed, saving with If-Match, and what to do when somebody was faster.
import { html, useEffect, useMemo, useState } from '../lib/html.js';
import { Problem, request } from '../lib/api.js';
import { pathWords, words } from '../lib/names.js';
import { setGuard } from '../lib/router.js';
import { toast } from '../lib/toast.js';
import { focusField } from './context.js';
import { applyPatch, changes, mergePatch } from './patch.js';

/** Shows what stands in the way of saving: the first wrong field, or, where that is on another tab, the list of all of them. */
function lead(errors) {
  if (errors.length) focusField(errors[0].field);
  const focused = document.activeElement;
  if (errors.length && focused?.matches('input, select, textarea, summary, button:not([data-save])') && focused.checkVisibility()) return;
  document.querySelector('[data-error-summary], .conflict, main .problem')?.scrollIntoView({ block: 'center' });
}

/**
 * Edits `base` (JSON). `save(draft, patch, etag)` sends it and resolves to `{data, etag}`; `pick(data)` gives the part
 * of an answer that is edited; `checks(draft)` gives the errors that need no server.
 */
export function useEditing({ path, loaded, etag, pick, save, checks, onSaved }) {
  const [base, setBase] = useState(() => pick(loaded));
  const [tag, setTag] = useState(etag);
  const [draft, setDraft] = useState(base);
  const [errors, setErrors] = useState([]);
  const [problem, setProblem] = useState(null);
  const [conflict, setConflict] = useState(null);
  const [busy, setBusy] = useState(false);
  const [refusals, setRefusals] = useState(0);
  const patch = useMemo(() => mergePatch(base, draft), [base, draft]);
  const dirty = patch !== undefined;

  useEffect(() => {
    setGuard({ isDirty: () => dirty, question: 'There are changes that are not saved. Leave them?' });
    return () => setGuard(null);
  }, [dirty]);

  useEffect(() => {
    if (refusals) lead(errors);
  }, [refusals]);

  const adopt = (data, nextTag) => {
    const next = pick(data);
    setBase(next);
    setDraft(next);
    setTag(nextTag);
    setErrors([]);
    setProblem(null);
    setConflict(null);
  };

  // While nothing is being edited, the newest state is simply shown.
  useEffect(() => {
    if (!dirty && loaded && etag !== tag) adopt(loaded, etag);
  }, [loaded, etag, dirty]);

  const submit = async (extra) => {
    const found = checks(draft);
    setErrors(found);
    setProblem(null);
    if (found.length) setRefusals((count) => count + 1);
    if (found.length || busy) return false;
    setBusy(true);
    try {
      const saved = await save(draft, patch, tag, extra);
      adopt(saved.data, saved.etag);
      onSaved?.(saved.data, saved.etag);
      toast('Saved. The next event obeys.');
      return true;
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (error.status === 412) {
        const { data, etag: theirs } = await request('GET', path);
        setConflict({ theirs: pick(data), data, etag: theirs });
      } else if (error.errors.length) setErrors(error.errors);
      else setProblem(error);
      setRefusals((count) => count + 1);
      return false;
    } finally {
      setBusy(false);
    }
  };

  const takeTheirs = () => adopt(conflict.data, conflict.etag);
  const reapply = () => {
    setBase(conflict.theirs);
    setTag(conflict.etag);
    setDraft(applyPatch(conflict.theirs, patch));
    setConflict(null);
  };
  const reset = () => {
    setDraft(base);
    setErrors([]);
    setProblem(null);
  };
  return { base, draft, setDraft, errors, problem, conflict, busy, dirty, submit, reset, takeTheirs, reapply };
}

/** A value in a few words: lists with commas, new or removed objects as `key: value`. */
function shown(value) {
  if (value === undefined || value === null || value === '') return '–';
  if (Array.isArray(value)) return value.map(shown).join(', ') || 'none';
  if (typeof value === 'object') return Object.entries(value).filter(([, part]) => part !== null).map(([key, part]) => `${words(key)}: ${shown(part)}`).join(' · ');
  if (typeof value === 'boolean') return value ? 'yes' : 'no';
  return String(value);
}

/** Differences as a table: what, before, after. */
export function Changes({ list, before = 'Before', after = 'After' }) {
  if (!list.length) return html`<p class="muted">Nothing else changed.</p>`;
  return html`<div class="scroll"><table class="changes"><thead><tr><th scope="col">Field</th><th scope="col">${before}</th><th scope="col">${after}</th></tr></thead>
    <tbody>${list.map((one) => html`<tr key=${one.path}><th scope="row" title=${one.path}>${pathWords(one.path) || 'Everything'}</th>
      <td><del>${shown(one.before)}</del></td><td><ins>${shown(one.after)}</ins></td></tr>`)}</tbody></table></div>`;
}

/** Somebody else saved first: both versions, and a way on. */
export function Conflict({ editing }) {
  if (!editing.conflict) return null;
  const { base, draft, conflict } = editing;
  return html`<section class="card conflict" role="alert">
    <h2>Somebody else changed this meanwhile</h2>
    <p>Nothing is saved yet. Take their version and lose your changes, or put your changes on top of theirs and look at them once more.</p>
    <h3>What they changed</h3><${Changes} list=${changes(base, conflict.theirs)} after="Theirs" />
    <h3>What you changed</h3><${Changes} list=${changes(base, draft)} after="Yours" />
    <div class="actions"><button type="button" onClick=${editing.takeTheirs}>Take theirs</button>
      <button type="button" class="primary" onClick=${editing.reapply}>Put mine on top</button></div>
  </section>`;
}

/** The bar with Save and Undo, always in view while there is something to save. */
export function SaveBar({ editing, reasonLabel = 'Reason (optional)' }) {
  const [reason, setReason] = useState('');
  const save = async (event) => {
    event?.preventDefault();
    if (await editing.submit(reason)) setReason('');
  };
  const wrong = editing.errors.length;
  const many = editing.dirty ? changes(editing.base, editing.draft).length : 0;
  return html`<form class=${editing.dirty ? 'save-bar dirty' : 'save-bar'} onSubmit=${save} noValidate>
    <span class="grow" aria-live="polite">${editing.dirty ? `${many} ${many === 1 ? 'change' : 'changes'} not saved${wrong ? ` · ${wrong === 1 ? 'one field is' : `${wrong} fields are`} wrong` : ''}` : 'Everything is saved'}</span>
    ${editing.dirty && reasonLabel && html`<input type="text" class="reason" aria-label=${reasonLabel} placeholder=${reasonLabel} value=${reason} onInput=${(e) => setReason(e.currentTarget.value)} />`}
    <button type="button" disabled=${!editing.dirty || editing.busy} onClick=${editing.reset}>Undo</button>
    <button class="primary" data-save disabled=${!editing.dirty || editing.busy}>${editing.busy ? 'Saving…' : 'Save'}</button>
  </form>`;
}
