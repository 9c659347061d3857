// Raw bytes as text, as JSON where they are some, or as a hex dump.
import { html, useMemo, useState } from '../lib/html.js';
import { bytes as size } from '../lib/format.js';

const HEX_MAX = 8192;

function hexDump(data) {
  const rows = [];
  for (let at = 0; at < Math.min(data.length, HEX_MAX); at += 16) {
    const row = [...data.subarray(at, at + 16)];
    const hex = row.map((byte) => byte.toString(16).padStart(2, '0')).join(' ').padEnd(47);
    const text = row.map((byte) => (byte >= 32 && byte < 127 ? String.fromCharCode(byte) : '.')).join('');
    rows.push(`${at.toString(16).padStart(6, '0')}  ${hex}  ${text}`);
  }
  if (data.length > HEX_MAX) rows.push(`… ${data.length - HEX_MAX} more bytes`);
  return rows.join('\n');
}

function decode(base64) {
  try {
    return Uint8Array.from(atob(base64 ?? ''), (letter) => letter.charCodeAt(0));
  } catch {
    return new Uint8Array();
  }
}

/** The bytes; opens as text if they are UTF-8, else as hex. */
export function Bytes({ base64 }) {
  const data = useMemo(() => decode(base64), [base64]);
  const text = useMemo(() => {
    try {
      return new TextDecoder('utf-8', { fatal: true }).decode(data);
    } catch {
      return null;
    }
  }, [data]);
  const pretty = useMemo(() => {
    try {
      return JSON.stringify(JSON.parse(text), null, 2);
    } catch {
      return null;
    }
  }, [text]);
  const odd = text === null || /[\u0000-\u0008\u000e-\u001f]/.test(text);
  const [view, setView] = useState(odd ? 'hex' : 'text');
  const tab = (id, label, usable = true) => html`<button type="button" class="small" aria-pressed=${view === id ? 'true' : 'false'} disabled=${!usable} onClick=${() => setView(id)}>${label}</button>`;
  return html`<div class="row">${tab('text', 'Text', text !== null)}${tab('json', 'JSON', pretty !== null)}${tab('hex', 'Hex')}<span class="muted">${size(data.length)}</span></div>
    <pre class="json raw" tabindex="0" data-view=${view}>${view === 'hex' ? hexDump(data) : view === 'json' ? pretty : text}</pre>`;
}
