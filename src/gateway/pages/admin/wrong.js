// What the page itself finds wrong in a field.

import { mark } from "../common/forms.js";
import { Problem } from "../common/http.js";

/** It is told in the reader's language, `words`, unlike what the API says of a field. */
export class Wrong extends Problem {
  constructor(field, words) {
    super(422);
    this.field = field;
    this.words = words;
  }
}

/** For the `submit` of the form `whole`: runs `act`, and says what it finds wrong at its field. */
export async function checked(whole, act) {
  try {
    return await act();
  } catch (error) {
    if (error instanceof Wrong) mark(whole, error.field, error.words);
    throw error;
  }
}
