//! Takes the text of a script apart, far enough to see which programs it runs with which words.

/// The simple commands of `script`, each as its words, without comments and without what sets variables.
pub(super) fn commands(script: &str) -> Vec<Vec<String>> {
    let script = script.replace("\\\n", " ");
    let (mut commands, mut words, mut word) = (Vec::new(), Vec::new(), None::<String>);
    let (mut quote, mut letters) = (None, script.chars().peekable());
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(end), _) if letter == end => quote = None,
            (Some('"'), '\\') | (None, '\\') => word.get_or_insert_default().extend(letters.next()),
            (Some(_), _) => word.get_or_insert_default().push(letter),
            (None, '\'' | '"') => {
                word.get_or_insert_default();
                quote = Some(letter);
            }
            (None, '#') if word.is_none() => {
                while letters.next_if(|letter| *letter != '\n').is_some() {}
            }
            (None, ' ') => words.extend(word.take()),
            (None, '\n' | ';' | '|' | '&' | '(' | ')') => {
                words.extend(word.take());
                commands.push(std::mem::take(&mut words));
            }
            (None, _) => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    commands.push(words);
    commands.into_iter().map(program).filter(|words| !words.is_empty()).collect()
}

/// From the program on: neither what the shell says itself, nor what sets variables.
fn program(words: Vec<String>) -> Vec<String> {
    let is_before = |word: &String| {
        let name = word.split_once('=').map(|(name, _)| name);
        let sets =
            name.is_some_and(|name| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'));
        sets || ["do", "then", "else", "until", "while", "if", "export", "!"]
            .contains(&word.as_str())
    };
    let words = words.into_iter().skip_while(is_before).collect::<Vec<_>>();
    let is_syntax = |word: &String| ["for", "done", "fi"].contains(&word.as_str());
    if words.first().is_some_and(is_syntax) { Vec::new() } else { words }
}
