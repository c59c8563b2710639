// Requests that wait for another one of the same customer.

/** How often a request is sent again while the shop says that another one is under way, as from another tab. */
const TRIES = 5;

/** What `act` gives. It is done again, after the time that the shop says, while another request is under way (409 with `Retry-After`). */
export async function patient(act, tries = TRIES) {
  try {
    return await act();
  } catch (error) {
    if (error.status !== 409 || !error.retryAfter || !tries) throw error;
    await new Promise((resolve) => setTimeout(resolve, error.retryAfter * 1000));
    return patient(act, tries - 1);
  }
}
