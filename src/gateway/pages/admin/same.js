// Values of JSON, compared.

/** Whether it is an object of JSON, and no list. */
export const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

/** Whether two values of JSON are the same; the order of an object's keys does not count. */
export function same(one, other) {
  if (isObject(one) && isObject(other)) {
    const keys = Object.keys(one);
    return keys.length === Object.keys(other).length && keys.every((key) => key in other && same(one[key], other[key]));
  }
  if (Array.isArray(one) && Array.isArray(other)) return one.length === other.length && one.every((value, at) => same(value, other[at]));
  return one === other;
}
