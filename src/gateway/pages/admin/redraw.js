// Draws a part of the page anew under the hands of somebody who uses it.

const USABLE = "a[href], button, input, select, summary, [tabindex]";

/** Calls `draw()`, which replaces what is in `place`. Details that are open stay so, and the focus stays at what says the same, else at
 *  the beginning. */
export function redraw(place, draw) {
  const open = [...place.querySelectorAll("details")].map((details) => details.open);
  const before = place.contains(document.activeElement) ? document.activeElement : null;
  draw();
  for (const [index, details] of place.querySelectorAll("details").entries()) details.open ||= open[index] ?? false;
  if (!before || before.isConnected) return;
  const all = [...place.querySelectorAll(USABLE)];
  const same = all.find((element) => element.tagName === before.tagName && element.textContent === before.textContent);
  (same ?? all[0])?.focus({ preventScroll: true });
}
