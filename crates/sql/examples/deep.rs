use keepfast_sql::parse;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let n: usize = a[2].parse().unwrap();
    let sql = format!("{}{}{}{}", a[3], a[4].repeat(n), a[5], a[6].repeat(n));
    let op = a[1].clone();
    let kb: usize = a.get(7).map_or(2048, |k| k.parse().unwrap());
    std::thread::Builder::new()
        .stack_size(kb << 10)
        .spawn(move || {
            let tree = parse(&sql);
            println!("{}", tree.as_ref().map_or_else(|e| e.to_string(), |t| t.len().to_string()));
            let Ok(tree) = tree else { return };
            match op.as_str() {
                "leak" => std::mem::forget(tree),
                "drop" => drop(tree),
                "clone" => {
                    let c = tree.clone();
                    std::mem::forget(c);
                    std::mem::forget(tree);
                }
                "eq" => {
                    let c = tree.clone();
                    println!("{}", c == tree);
                    std::mem::forget(c);
                    std::mem::forget(tree);
                }
                "debug" => {
                    println!("{}", format!("{tree:?}").len());
                    std::mem::forget(tree);
                }
                "display" => {
                    if let keepfast_sql::Statement::Query(q) = &tree[0].statement {
                        println!("{}", q.query.to_string().len());
                    }
                    std::mem::forget(tree);
                }
                _ => panic!(),
            }
        })
        .unwrap()
        .join()
        .unwrap();
}
