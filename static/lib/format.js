// Numbers, times, durations and money as people read them.
const number = new Intl.NumberFormat();
const compact = new Intl.NumberFormat(undefined, { notation: 'compact', maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'medium', hourCycle: 'h23' });
const short = new Intl.DateTimeFormat(undefined, { month: 'short', day: 'numeric', hour: '2-digit', minute: '2-digit', hourCycle: 'h23' });
const moneyFormats = new Map();

/** `1,234`; a dash where there is nothing. */
export const count = (value) => (Number.isFinite(value) ? number.format(value) : '–');
/** `1.2K`. */
export const brief = (value) => (Number.isFinite(value) ? compact.format(value) : '–');

const dated = (format) => (value) => {
  if (!value) return '–';
  const date = new Date(value);
  return Number.isNaN(date.getTime()) ? String(value) : format.format(date);
};
/** `14:03:59`. */
export const time = dated(clock);
/** Date and time in full. */
export const dateTime = dated(full);
/** `Jan 5, 14:03`. */
export const shortDateTime = dated(short);

/** `just now`, `5 min ago`. */
export function ago(value, now = Date.now()) {
  if (!value) return 'never';
  const seconds = Math.round((now - new Date(value).getTime()) / 1000);
  if (Number.isNaN(seconds)) return '–';
  if (seconds < 5) return 'just now';
  return `${duration(seconds, 1)} ago`;
}

/** `2 h 5 min`; at most `parts` units. */
export function duration(seconds, parts = 2) {
  if (!Number.isFinite(seconds)) return '–';
  const units = [['d', 86400], ['h', 3600], ['min', 60], ['s', 1]];
  let rest = Math.round(Math.abs(seconds));
  const out = [];
  for (const [name, size] of units) {
    const whole = Math.floor(rest / size);
    if (whole && out.length < parts) out.push(`${whole} ${name}`);
    rest -= whole * size;
  }
  return (seconds < 0 ? '-' : '') + (out.join(' ') || '0 s');
}

/** Hours and minutes as on a time sheet: `7:45`. */
export function hours(seconds) {
  if (!Number.isFinite(seconds)) return '–';
  const minutes = Math.round(seconds / 60);
  return `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, '0')}`;
}

// Browsers know how many decimals are customary; how many there are in a minor unit is what ISO 4217 says.
const MINOR_DIGITS = { BHD: 3, IQD: 3, JOD: 3, KWD: 3, LYD: 3, OMR: 3, TND: 3, CLF: 4, UYW: 4 };
for (const code of 'BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF'.split(' ')) MINOR_DIGITS[code] = 0;

/** Minor units and a currency as money: `12.99 €`. */
export function money(minor, currency) {
  if (!Number.isFinite(minor)) return '–';
  const digits = MINOR_DIGITS[currency] ?? 2;
  let format = moneyFormats.get(currency);
  if (!format) {
    const decimals = { minimumFractionDigits: digits, maximumFractionDigits: digits };
    try {
      format = new Intl.NumberFormat(undefined, { style: 'currency', currency, ...decimals });
    } catch {
      format = new Intl.NumberFormat(undefined, decimals);
    }
    moneyFormats.set(currency, format);
  }
  return format.format(minor / 10 ** digits);
}

/** `12.3 MB`. */
export function bytes(value) {
  if (!Number.isFinite(value)) return '–';
  const units = ['B', 'KB', 'MB', 'GB', 'TB'];
  const step = value > 0 ? Math.min(4, Math.floor(Math.log2(value) / 10)) : 0;
  return `${(value / 1024 ** step).toFixed(step ? 1 : 0)} ${units[step]}`;
}

/** A day as `2026-01-05`, in local time, `offset` days from today. */
export function day(offset = 0) {
  const date = new Date();
  date.setDate(date.getDate() + offset);
  return `${date.getFullYear()}-${String(date.getMonth() + 1).padStart(2, '0')}-${String(date.getDate()).padStart(2, '0')}`;
}
