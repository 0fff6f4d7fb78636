//! From a failing script to a short one (delta debugging): pieces are left out as long as it still fails.

/// A shortest script that this search finds to fail, from one that does. `fails` is asked at most `most` times.
pub async fn shrink<T: Clone>(script: &[T], most: usize, mut fails: impl AsyncFnMut(&[T]) -> bool) -> Vec<T> {
    let mut script = script.to_vec();
    let mut asked = 0;
    let mut piece = script.len().div_ceil(2);
    while piece > 0 && asked < most {
        let mut shorter = None;
        for start in (0..script.len()).step_by(piece) {
            let end = (start + piece).min(script.len());
            let rest: Vec<T> = [&script[..start], &script[end..]].concat();
            asked += 1;
            if fails(&rest).await {
                shorter = Some(rest);
                break;
            }
            if asked >= most {
                break;
            }
        }
        match shorter {
            Some(rest) => {
                script = rest;
                piece = piece.min(script.len().div_ceil(2));
            }
            None => piece /= 2,
        }
    }
    script
}

#[tokio::test]
async fn a_script_is_shrunk_to_the_steps_that_matter() {
    let script: Vec<u32> = (0..100).collect();
    let mut asked = 0;
    let short = shrink(&script, 1_000, async |s: &[u32]| {
        asked += 1;
        s.contains(&17) && s.contains(&18) && s.contains(&90)
    });
    assert_eq!(short.await, [17, 18, 90]);
    assert!(asked < 200, "{asked}");
}
