// The one place that pages import the vendored libraries from: preact, its hooks, signals and htm's `html` tag.
import { h } from '../vendor/preact.js';
import htm from '../vendor/htm.js';

export const html = htm.bind(h);
export { render, Fragment, createContext } from '../vendor/preact.js';
export { useState, useEffect, useLayoutEffect, useRef, useMemo, useCallback, useContext, useId } from '../vendor/hooks.js';
export { signal, computed, effect, batch } from '../vendor/signals.js';
